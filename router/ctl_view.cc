#include "router/ctl_view.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

namespace baton::router {
namespace {

using Json = nlohmann::ordered_json;

std::string cell(const Json& value) {
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Rows of cells, the first being the head; every column as wide as its widest cell.
std::string align(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

// "name": value pairs of an object on one line; nested objects in parentheses.
std::string one_line(const Json& object) {
  if (!object.is_object()) return cell(object);
  std::string out;
  for (const auto& [name, value] : object.items()) {
    if (!out.empty()) out += "  ";
    out += name + " " + (value.is_object() ? "(" + one_line(value) + ")" : cell(value));
  }
  return out;
}

struct Histogram {
  double count = 0;
  double sum = 0;
};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

}  // namespace

std::string table_of(const Json& rows) {
  std::vector<std::string> head;
  for (const Json& row : rows) {
    for (const auto& [name, value] : row.items()) {
      if (std::find(head.begin(), head.end(), name) == head.end()) head.push_back(name);
    }
  }
  std::vector<std::vector<std::string>> cells = {head};
  for (const Json& row : rows) {
    auto& line = cells.emplace_back();
    for (const std::string& name : head) line.push_back(cell(row.value(name, Json())));
  }
  return cells.size() == 1 ? std::string() : align(cells);
}

std::string handoffs_view(const Json& answer) {
  if (!answer.is_object()) return answer.dump(2) + "\n";
  std::string out;
  for (const auto& [name, value] : answer.items()) {
    const bool list_of_objects =
        value.is_array() &&
        std::all_of(value.begin(), value.end(), [](const Json& each) { return each.is_object(); });
    if (!list_of_objects) {
      out += name + ": " + one_line(value) + "\n";
    } else if (value.empty()) {
      out += name + ": none\n";
    } else {
      out += name + ": " + std::to_string(value.size()) + "\n" + table_of(value);
    }
  }
  return out;
}

std::string metrics_view(std::string_view text, std::string_view filter) {
  std::vector<std::vector<std::string>> rows;
  std::map<std::string, Histogram> histograms;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.rfind(' ');
    if (line.empty() || line[0] == '#' || space == line.npos) continue;
    const std::string series = line.substr(0, space);
    const size_t brace = std::min(series.find('{'), series.size());
    const std::string name = series.substr(0, brace);
    const std::string labels = series.substr(brace);
    if (name.find(filter) == name.npos || name.ends_with("_bucket")) continue;
    const double value = std::strtod(line.c_str() + space + 1, nullptr);
    if (name.ends_with("_count")) {
      histograms[name.substr(0, name.size() - 6) + labels].count = value;
    } else if (name.ends_with("_sum")) {
      histograms[name.substr(0, name.size() - 4) + labels].sum = value;
    } else {
      rows.push_back({series, number(value)});
    }
  }
  for (const auto& [series, h] : histograms) {
    if (h.count == 0) continue;
    rows.push_back({series, "count " + number(h.count) + "  mean " + number(h.sum / h.count) +
                                "  sum " + number(h.sum)});
  }
  return align(rows);
}

}  // namespace baton::router
