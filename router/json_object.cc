#include "router/json_object.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace baton::router {
namespace {

// Walks over text that is known to be valid JSON.
class Scanner {
 public:
  Scanner(std::string_view text, size_t at) : text_(text), at_(at) {}

  size_t at() const { return at_; }
  char peek() const { return text_[at_]; }
  void advance() { ++at_; }
  void skip_space() { at_ = text_.find_first_not_of(" \t\r\n", at_); }
  void skip_string() {
    for (++at_; text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
  }
  void skip_value() {
    if (peek() == '"') return skip_string();
    if (peek() != '{' && peek() != '[') {
      at_ = text_.find_first_of(",]} \t\r\n", at_);
      return;
    }
    size_t depth = 0;
    do {
      if (peek() == '"') {
        skip_string();
        continue;
      }
      if (peek() == '{' || peek() == '[') ++depth;
      if (peek() == '}' || peek() == ']') --depth;
      ++at_;
    } while (depth > 0);
  }

 private:
  std::string_view text_;
  size_t at_;
};

}  // namespace

std::optional<JsonObject> JsonObject::of(std::string text) {
  JsonObject object;
  object.text_ = std::move(text);
  const std::string& body = object.text_;
  Scanner scan(body, 0);
  scan.skip_space();
  if (scan.peek() != '{') return std::nullopt;
  scan.advance();
  scan.skip_space();
  while (scan.peek() != '}') {
    Member member;
    member.begin = scan.at();
    scan.skip_string();
    // The name may be written with escapes.
    member.name = nlohmann::json::parse(body.substr(member.begin, scan.at() - member.begin));
    scan.skip_space();
    scan.advance();  // ':'
    scan.skip_space();
    member.value = scan.at();
    scan.skip_value();
    member.end = scan.at();
    object.members_.push_back(std::move(member));
    scan.skip_space();
    if (scan.peek() == ',') {
      scan.advance();
      scan.skip_space();
    }
  }
  return object;
}

std::string_view JsonObject::value_of(const Member& member) const {
  return std::string_view(text_).substr(member.value, member.end - member.value);
}

std::vector<std::pair<std::string_view, std::string_view>> JsonObject::members() const {
  std::vector<std::pair<std::string_view, std::string_view>> all;
  for (const Member& member : members_) all.emplace_back(member.name, value_of(member));
  return all;
}

std::optional<std::string_view> JsonObject::value_of(std::string_view name) const {
  const auto found = std::find_if(members_.rbegin(), members_.rend(),
                                  [&](const Member& member) { return member.name == name; });
  if (found == members_.rend()) return std::nullopt;
  return value_of(*found);
}

std::string JsonObject::with(std::initializer_list<std::string_view> left_out,
                             std::string_view added) const {
  std::string out = "{";
  out.reserve(text_.size() + added.size() + 2);
  const auto append = [&](std::string_view text) {
    if (out.size() > 1) out += ',';
    out += text;
  };
  for (const Member& member : members_) {
    if (std::find(left_out.begin(), left_out.end(), member.name) != left_out.end()) continue;
    append(std::string_view(text_).substr(member.begin, member.end - member.begin));
  }
  if (!added.empty()) append(added);
  return out + '}';
}

}  // namespace baton::router
