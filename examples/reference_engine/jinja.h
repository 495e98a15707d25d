// The inside of ChatTemplate: a small Jinja. Texts carry which of their bytes the template wrote
// and which came from a message.
//
// Thread-safe after parsing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "transfer/base/status.h"

namespace baton::reference::jinja {

// Bytes and, run by run, whether they are the template's own.
class Text {
 public:
  Text() = default;
  Text(std::string bytes, bool own);

  const std::string& bytes() const { return bytes_; }
  void append(const Text& other);
  Text slice(size_t begin, size_t end) const;
  // Without white space at the chosen ends.
  Text trimmed(bool left, bool right) const;
  // Byte for byte; `f` maps a character.
  template <typename F>
  Text mapped(F f) const {
    Text out = *this;
    for (char& c : out.bytes_) c = f(c);
    return out;
  }
  struct Run {
    size_t end;
    bool own;
  };
  const std::vector<Run>& runs() const { return runs_; }

 private:
  std::string bytes_;
  std::vector<Run> runs_;  // ascending ends; the last is bytes_.size()
};

struct Value;
using List = std::vector<Value>;
using Dict = std::map<std::string, Value, std::less<>>;
struct Undefined {};
struct Value {
  std::variant<Undefined, std::nullptr_t, bool, int64_t, Text, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>>
      data;

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  bool truthy() const;
  const char* type_name() const;
};
bool equal(const Value& a, const Value& b);

struct Expression {
  enum Kind {
    kLiteral,
    kName,
    kList,
    kAttribute,
    kIndex,
    kCall,
    kFilter,
    kTest,
    kNot,
    kNegate,
    kBinary,
    kAnd,
    kOr,
    kChoice,
  };
  Kind kind;
  int line = 0;
  Value value;       // kLiteral
  std::string name;  // kName, kAttribute, kFilter, kTest, kBinary (its sign), kCall (the method)
  // Operands. kCall: the object (none: the function raise_exception), then arguments.
  // kChoice: condition, then, else (may lack).
  std::vector<std::unique_ptr<Expression>> operands;
  bool method = false;  // kCall
};

struct Node {
  enum Kind { kText, kOutput, kIf, kFor, kSet };
  Kind kind;
  int line = 0;
  std::string text;                        // kText; kFor and kSet: the variable
  std::unique_ptr<Expression> expression;  // kOutput, kSet; kFor: over what
  // kFor: one body. kIf: one body a condition, the `else` with a null condition.
  std::vector<std::unique_ptr<Expression>> conditions;
  std::vector<std::vector<Node>> bodies;
};

// One thing between tags, or a tag's content with its sign already known.
struct Token {
  enum Kind { kName, kInteger, kString, kSign, kEnd };
  Kind kind = kEnd;
  std::string text;
  int64_t number = 0;
};
struct Piece {
  enum Kind { kText, kOutput, kStatement };
  Kind kind = kText;
  int line = 1;
  std::string text;
  std::vector<Token> tokens;  // ends with kEnd
};

Status error_at(int line, const std::string& what);
// Cuts a template at its tags; white space around tags as transformers sets Jinja up
// (trim_blocks, lstrip_blocks), comments gone.
Result<std::vector<Piece>> cut(std::string_view source);
Result<std::vector<Node>> parse(const std::vector<Piece>& pieces);
// kInvalidArgument: raise_exception, operands that do not fit, too long a result.
Result<Text> render(const std::vector<Node>& program, const Dict& variables);

}  // namespace baton::reference::jinja
