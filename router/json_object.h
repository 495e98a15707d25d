// A JSON object as text, changed member by member: what is not changed stays as it was written,
// byte for byte. Externally synchronised.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace baton::router {

class JsonObject {
 public:
  JsonObject() = default;

  // `text` must be valid JSON; nothing where it is no object.
  static std::optional<JsonObject> of(std::string text);

  const std::string& text() const { return text_; }
  // Names and the text of values, in their order; a name may stand twice.
  std::vector<std::pair<std::string_view, std::string_view>> members() const;
  // Of the last member of that name, as parsers have it.
  std::optional<std::string_view> value_of(std::string_view name) const;
  // Without the members named in `left_out`, and with `added` (members as text) behind the others.
  std::string with(std::initializer_list<std::string_view> left_out, std::string_view added) const;

 private:
  struct Member {
    std::string name;
    size_t begin = 0;  // of its text, from the name's quote …
    size_t end = 0;    // … to the end of its value
    size_t value = 0;  // where its value begins
  };
  std::string_view value_of(const Member& member) const;

  std::string text_;
  std::vector<Member> members_;
};

}  // namespace baton::router
