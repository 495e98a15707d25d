// Program + variables -> text.
#include <cctype>
#include <utility>

#include "examples/reference_engine/jinja.h"

namespace baton::reference::jinja {

Text::Text(std::string bytes, bool own) : bytes_(std::move(bytes)) {
  if (!bytes_.empty()) runs_.push_back({bytes_.size(), own});
}

void Text::append(const Text& other) {
  const size_t offset = bytes_.size();
  bytes_ += other.bytes_;
  for (const Run& run : other.runs_) {
    if (!runs_.empty() && runs_.back().own == run.own) {
      runs_.back().end = offset + run.end;
    } else {
      runs_.push_back({offset + run.end, run.own});
    }
  }
}

Text Text::slice(size_t begin, size_t end) const {
  Text out;
  out.bytes_ = bytes_.substr(begin, end - begin);
  for (const Run& run : runs_) {
    if (run.end <= begin) continue;
    out.runs_.push_back({std::min(run.end, end) - begin, run.own});
    if (run.end >= end) break;
  }
  if (begin == end) out.runs_.clear();
  return out;
}

Text Text::trimmed(bool left, bool right) const {
  const auto space = [&](size_t i) { return std::isspace(static_cast<unsigned char>(bytes_[i])); };
  size_t begin = 0, end = bytes_.size();
  while (left && begin < end && space(begin)) ++begin;
  while (right && end > begin && space(end - 1)) --end;
  return slice(begin, end);
}

bool Value::truthy() const {
  if (const auto* b = get<bool>()) return *b;
  if (const auto* n = get<int64_t>()) return *n != 0;
  if (const auto* t = get<Text>()) return !t->bytes().empty();
  if (const auto* l = get<std::shared_ptr<const List>>()) return !(*l)->empty();
  if (const auto* d = get<std::shared_ptr<const Dict>>()) return !(*d)->empty();
  return false;
}

const char* Value::type_name() const {
  constexpr const char* kNames[] = {"undefined", "none",   "a boolean", "an integer",
                                    "a string",  "a list", "a mapping"};
  return kNames[data.index()];
}

bool equal(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (const auto* x = a.get<bool>()) return *x == *b.get<bool>();
  if (const auto* x = a.get<int64_t>()) return *x == *b.get<int64_t>();
  if (const auto* x = a.get<Text>()) return x->bytes() == b.get<Text>()->bytes();
  if (const auto* x = a.get<std::shared_ptr<const List>>()) {
    const List &left = **x, &right = **b.get<std::shared_ptr<const List>>();
    if (left.size() != right.size()) return false;
    for (size_t i = 0; i < left.size(); ++i) {
      if (!equal(left[i], right[i])) return false;
    }
    return true;
  }
  if (const auto* x = a.get<std::shared_ptr<const Dict>>()) {
    return *x == *b.get<std::shared_ptr<const Dict>>();  // the same object
  }
  return true;
}

namespace {

constexpr size_t kMaxOutput = size_t{16} << 20;
// Of all loops together; loops over messages within each other need not print anything.
constexpr size_t kMaxRounds = 100'000;

class Renderer {
 public:
  explicit Renderer(const Dict& variables) { scopes_.push_back(variables); }

  Status run(const std::vector<Node>& nodes) {
    for (const Node& node : nodes) {
      BATON_RETURN_IF_ERROR(run(node));
      if (out.bytes().size() > kMaxOutput) return error_at(node.line, "the result exceeds 16 MiB");
    }
    return {};
  }

  Text out;

 private:
  Status run(const Node& node) {
    switch (node.kind) {
      case Node::kText:
        out.append(Text(node.text, true));
        return {};
      case Node::kOutput: {
        BATON_ASSIGN_OR_RETURN(const Value value, evaluate(*node.expression));
        BATON_ASSIGN_OR_RETURN(const Text text, print(value, node.line));
        out.append(text);
        return {};
      }
      case Node::kSet: {
        BATON_ASSIGN_OR_RETURN(scopes_.back()[node.text], evaluate(*node.expression));
        return {};
      }
      case Node::kIf:
        for (size_t i = 0; i < node.conditions.size(); ++i) {
          if (node.conditions[i] == nullptr) return run(node.bodies[i]);
          BATON_ASSIGN_OR_RETURN(const Value condition, evaluate(*node.conditions[i]));
          if (condition.truthy()) return run(node.bodies[i]);
        }
        return {};
      case Node::kFor:
        return run_for(node);
    }
    return {};
  }

  Status run_for(const Node& node) {
    BATON_ASSIGN_OR_RETURN(const Value over, evaluate(*node.expression));
    const auto* list = over.get<std::shared_ptr<const List>>();
    if (list == nullptr) {
      return error_at(node.line,
                      std::string("\"for\": expected a list, found ") + over.type_name());
    }
    const auto size = static_cast<int64_t>((*list)->size());
    for (int64_t i = 0; i < size; ++i) {
      if (++rounds_ > kMaxRounds) return error_at(node.line, "more than 100,000 loop rounds");
      const auto loop = std::make_shared<Dict>();
      *loop = {{"index0", {i}},
               {"index", {i + 1}},
               {"first", {i == 0}},
               {"last", {i + 1 == size}},
               {"length", {size}}};
      // What a round sets is gone after it.
      scopes_.push_back({{node.text, (**list)[i]}, {"loop", {std::shared_ptr<const Dict>(loop)}}});
      const Status status = run(node.bodies[0]);
      scopes_.pop_back();
      BATON_RETURN_IF_ERROR(status);
    }
    return {};
  }

  Result<Text> print(const Value& value, int line) const {
    if (const auto* text = value.get<Text>()) return *text;
    if (const auto* number = value.get<int64_t>()) return Text(std::to_string(*number), true);
    if (const auto* boolean = value.get<bool>()) return Text(*boolean ? "True" : "False", true);
    if (value.get<Undefined>() != nullptr) return Text();
    if (value.get<std::nullptr_t>() != nullptr) return Text("None", true);
    return error_at(line, std::string("unsupported printing of ") + value.type_name());
  }

  Result<Value> evaluate(const Expression& e) {
    switch (e.kind) {
      case Expression::kLiteral:
        return e.value;
      case Expression::kName:
        return look_up(e.name);
      case Expression::kList:
        return make_list(e);
      case Expression::kChoice: {
        BATON_ASSIGN_OR_RETURN(const Value condition, evaluate(*e.operands[0]));
        if (condition.truthy()) return evaluate(*e.operands[1]);
        return e.operands.size() > 2 ? evaluate(*e.operands[2]) : Value{};
      }
      case Expression::kAnd:
      case Expression::kOr: {
        BATON_ASSIGN_OR_RETURN(const Value left, evaluate(*e.operands[0]));
        if (left.truthy() == (e.kind == Expression::kOr)) return left;
        return evaluate(*e.operands[1]);
      }
      default:
        break;
    }
    std::vector<Value> operands;
    for (const auto& operand : e.operands) {
      BATON_ASSIGN_OR_RETURN(operands.emplace_back(), evaluate(*operand));
    }
    return apply(e, operands);
  }

  Value look_up(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    return {};
  }

  Result<Value> make_list(const Expression& e) {
    auto list = std::make_shared<List>();
    for (const auto& operand : e.operands) {
      BATON_ASSIGN_OR_RETURN(list->emplace_back(), evaluate(*operand));
    }
    return Value{std::shared_ptr<const List>(list)};
  }

  static Status mismatch(const Expression& e, const Value& found, const char* expected) {
    return error_at(e.line,
                    "\"" + e.name + "\": expected " + expected + ", found " + found.type_name());
  }

  Result<Value> apply(const Expression& e, const std::vector<Value>& operands) const {
    switch (e.kind) {
      case Expression::kNot:
        return Value{!operands[0].truthy()};
      case Expression::kNegate: {
        const auto* number = operands[0].get<int64_t>();
        if (number == nullptr) return mismatch(e, operands[0], "an integer");
        return Value{static_cast<int64_t>(-static_cast<uint64_t>(*number))};
      }
      case Expression::kAttribute:
        return member(e, operands[0], e.name);
      case Expression::kIndex:
        return index(e, operands[0], operands[1]);
      case Expression::kTest:
        if (e.name == "defined") return Value{operands[0].get<Undefined>() == nullptr};
        if (e.name == "none") return Value{operands[0].get<std::nullptr_t>() != nullptr};
        return Value{operands[0].get<Text>() != nullptr};
      case Expression::kFilter:
      case Expression::kCall:
        return call(e, operands);
      default:
        return binary(e, operands[0], operands[1]);
    }
  }

  static Result<Value> member(const Expression& e, const Value& object, std::string_view name) {
    const auto* dict = object.get<std::shared_ptr<const Dict>>();
    if (dict == nullptr) return mismatch(e, object, "a mapping");
    const auto found = (*dict)->find(name);
    return found == (*dict)->end() ? Value{} : found->second;
  }

  static Result<Value> index(const Expression& e, const Value& object, const Value& key) {
    if (const auto* name = key.get<Text>()) return member(e, object, name->bytes());
    const auto* list = object.get<std::shared_ptr<const List>>();
    const auto* number = key.get<int64_t>();
    if (number == nullptr) return mismatch(e, key, "a string or an integer");
    if (list == nullptr) return mismatch(e, object, "a list");
    const auto size = static_cast<int64_t>((*list)->size());
    const int64_t at = *number < 0 ? *number + size : *number;
    return at < 0 || at >= size ? Value{} : (**list)[at];
  }

  static Result<Value> call(const Expression& e, const std::vector<Value>& operands) {
    const Text* text = operands[0].get<Text>();
    if (e.kind == Expression::kCall && !e.method) {  // raise_exception
      return Status(Code::kInvalidArgument,
                    "chat template: " + (text != nullptr ? text->bytes() : std::string("error")));
    }
    if (e.name == "length" || e.name == "count") {
      if (const auto* list = operands[0].get<std::shared_ptr<const List>>()) {
        return Value{static_cast<int64_t>((*list)->size())};
      }
    }
    if (text == nullptr) return mismatch(e, operands[0], "a string");
    if (e.name == "length" || e.name == "count") return Value{characters(text->bytes())};
    if (e.name == "trim" || e.name == "strip") return Value{text->trimmed(true, true)};
    if (e.name == "lstrip") return Value{text->trimmed(true, false)};
    if (e.name == "rstrip") return Value{text->trimmed(false, true)};
    if (e.name == "lower" || e.name == "upper") {
      const bool lower = e.name == "lower";
      return Value{text->mapped([&](char c) {
        const char first = lower ? 'A' : 'a';
        return c >= first && c <= first + 25 ? static_cast<char>(c ^ 0x20) : c;
      })};
    }
    const Text* part = operands[1].get<Text>();
    if (part == nullptr) return mismatch(e, operands[1], "a string");
    return Value{e.name == "startswith" ? text->bytes().starts_with(part->bytes())
                                        : text->bytes().ends_with(part->bytes())};
  }

  static int64_t characters(const std::string& text) {
    int64_t count = 0;
    for (const char c : text) count += (c & 0xc0) != 0x80;
    return count;
  }

  Result<Value> binary(const Expression& e, const Value& left, const Value& right) const {
    if (e.name == "==") return Value{equal(left, right)};
    if (e.name == "!=") return Value{!equal(left, right)};
    if (e.name == "in") return contains(e, left, right);
    const auto *a = left.get<int64_t>(), *b = right.get<int64_t>();
    if (a != nullptr && b != nullptr) return integers(e, *a, *b);
    const auto *s = left.get<Text>(), *t = right.get<Text>();
    if (e.name == "~") {
      BATON_ASSIGN_OR_RETURN(Text joined, print(left, e.line));
      BATON_ASSIGN_OR_RETURN(const Text rest, print(right, e.line));
      joined.append(rest);
      return Value{std::move(joined)};
    }
    if (s == nullptr || t == nullptr) {
      const bool blame_left = s == nullptr && a == nullptr;
      return mismatch(e, blame_left ? left : right, "two strings or two integers");
    }
    if (e.name == "+") {
      if (s->bytes().size() + t->bytes().size() > kMaxOutput) {
        return error_at(e.line, "the result exceeds 16 MiB");
      }
      Text joined = *s;
      joined.append(*t);
      return Value{std::move(joined)};
    }
    const int order = s->bytes().compare(t->bytes());
    if (e.name == "-" || e.name == "%") return mismatch(e, left, "two integers");
    return compare(e.name, order);
  }

  static Result<Value> integers(const Expression& e, int64_t a, int64_t b) {
    const auto x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
    if (e.name == "+") return Value{static_cast<int64_t>(x + y)};
    if (e.name == "-") return Value{static_cast<int64_t>(x - y)};
    if (e.name == "~") return Value{Text(std::to_string(a) + std::to_string(b), true)};
    if (e.name == "%") {
      if (b <= 0) return error_at(e.line, "\"%\": expected a positive divisor");
      return Value{(a % b + b) % b};
    }
    return compare(e.name, a < b ? -1 : a > b ? 1 : 0);
  }

  static Result<Value> compare(const std::string& sign, int order) {
    if (sign == "<") return Value{order < 0};
    if (sign == "<=") return Value{order <= 0};
    return Value{sign == ">" ? order > 0 : order >= 0};
  }

  static Result<Value> contains(const Expression& e, const Value& what, const Value& where) {
    if (const auto* list = where.get<std::shared_ptr<const List>>()) {
      for (const Value& item : **list) {
        if (equal(item, what)) return Value{true};
      }
      return Value{false};
    }
    if (where.get<Undefined>() != nullptr) return Value{false};
    const Text* text = what.get<Text>();
    if (text == nullptr) return mismatch(e, what, "a string");
    if (const auto* dict = where.get<std::shared_ptr<const Dict>>()) {
      return Value{(*dict)->contains(text->bytes())};
    }
    const Text* whole = where.get<Text>();
    if (whole == nullptr) return mismatch(e, where, "a list, a mapping or a string");
    return Value{whole->bytes().find(text->bytes()) != std::string::npos};
  }

  std::vector<Dict> scopes_;
  size_t rounds_ = 0;
};

}  // namespace

Result<Text> render(const std::vector<Node>& program, const Dict& variables) {
  Renderer renderer(variables);
  BATON_RETURN_IF_ERROR(renderer.run(program));
  return std::move(renderer.out);
}

}  // namespace baton::reference::jinja
