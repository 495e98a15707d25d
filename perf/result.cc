#include "perf/result.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <thread>

namespace baton::bench {
namespace {

// Below so many samples a 99th percentile is just the slowest.
constexpr size_t kEnoughForP99 = 100;

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

const std::string& machine() {
  static const std::string text = [] {
    utsname system{};
    ::uname(&system);
    return processor() + ", " + std::to_string(std::thread::hardware_concurrency()) + " cores, " +
           system.sysname + " " + system.release;
  }();
  return text;
}

std::string date() {
  const std::time_t at = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&at, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

Json rate(const Line& line, double seconds) {
  if (!line.bytes) return nullptr;
  return rounded(static_cast<double>(*line.bytes) / seconds / 1e9);
}

// (p95 - p5) / median: how much the reference itself varied.
double spread(const Series& series) {
  return (quantile(series, 0.95) - quantile(series, 0.05)) / median(series);
}

std::string parameters_text(const Json& parameters) {
  std::string text;
  for (const auto& [key, value] : parameters.items()) {
    if (!text.empty()) text += ' ';
    text += key + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

std::string cell(const Json& value, const char* format) {
  if (!value.is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, format, value.get<double>());
  return text;
}

}  // namespace

double rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return std::strtod(text, nullptr);
}

Json to_json(const Line& line) {
  const double ours = median(line.ours);
  Json out;
  out["name"] = line.name;
  out["parameters"] = line.parameters;
  out["bytes"] = line.bytes ? Json(*line.bytes) : Json(nullptr);
  out["goodput_GBps"] = rate(line, ours);
  out["reference"] = line.reference;
  out["reference_GBps"] = rate(line, median(line.against));
  out["ratio"] =
      rounded(line.at == 0.5 ? median(line.against) / ours
                             : quantile(line.against, line.at) / quantile(line.ours, line.at));
  out["median_ms"] = rounded(ours * 1e3);
  out["p95_ms"] = rounded(quantile(line.ours, 0.95) * 1e3);
  out["p99_ms"] = line.ours.size() >= kEnoughForP99 ? Json(rounded(quantile(line.ours, 0.99) * 1e3))
                                                    : Json(nullptr);
  out["samples"] = line.ours.size();
  out["blame"] = line.blame.empty() ? Json(nullptr) : Json(line.blame);
  out["also"] = line.also;
  out["also"]["reference_median_ms"] = rounded(median(line.against) * 1e3);
  out["also"]["reference_spread"] = rounded(spread(line.against));
  out["machine"] = machine();
  out["date"] = date();
  return out;
}

Json without_times(const std::string& name, const Json& parameters) {
  Json out = {{"name", name}, {"parameters", parameters}};
  for (const char* field : {"bytes", "goodput_GBps", "reference", "reference_GBps", "ratio",
                            "median_ms", "p95_ms", "p99_ms", "samples", "blame"})
    out[field] = nullptr;
  out["also"] = Json::object();
  out["machine"] = machine();
  out["date"] = date();
  return out;
}

void Report::add(const Json& line, const std::string& heading, const std::string& row) {
  if (json_) {
    std::printf("%s\n", line.dump().c_str());
  } else {
    if (titled_ != heading) std::printf("%s%s\n", titled_.empty() ? "" : "\n", heading.c_str());
    titled_ = heading;
    std::printf("%s\n", row.c_str());
  }
  std::fflush(stdout);
}

void Report::add(const Line& line) {
  const Json json = to_json(line);
  if (json_) {
    std::printf("%s\n", json.dump().c_str());
    std::fflush(stdout);
    return;
  }
  if (titled_ != line.name + line.reference) {
    std::printf("%s%s, against %s\n%8s %8s %6s %10s %10s %7s %-14s %s\n",
                titled_.empty() ? "" : "\n", line.name.c_str(), line.reference.c_str(), "GB/s",
                "its GB/s", "ratio", "median ms", "p95 ms", "spread", "bound by", "parameters");
    titled_ = line.name + line.reference;
  }
  std::printf("%8s %8s %6s %10s %10s %6.0f%% %-14s %s\n",
              cell(json["goodput_GBps"], "%.2f").c_str(),
              cell(json["reference_GBps"], "%.2f").c_str(), cell(json["ratio"], "%.3f").c_str(),
              cell(json["median_ms"], "%.3f").c_str(), cell(json["p95_ms"], "%.3f").c_str(),
              100 * spread(line.against), line.blame.empty() ? "-" : line.blame.c_str(),
              parameters_text(line.parameters).c_str());
  if (!line.also.empty()) std::printf("%43s also %s\n", "", parameters_text(line.also).c_str());
  std::fflush(stdout);
}

void add_also(Line& line, const std::string& name, const Series& series) {
  line.also[name + "_GBps"] = rate(line, median(series));
  line.also["share_of_" + name] = rounded(median(series) / median(line.ours));
}

}  // namespace baton::bench
