// Pieces -> program. What is not supported is refused here, not when a chat meets it.
#include <algorithm>
#include <array>

#include "examples/reference_engine/jinja.h"

namespace baton::reference::jinja {
namespace {

using ExpressionPtr = std::unique_ptr<Expression>;

constexpr int kMaxDepth = 64;
constexpr std::array<std::string_view, 6> kFilters = {"trim",  "strip", "length",
                                                      "count", "lower", "upper"};
constexpr std::array<std::string_view, 7> kMethods = {"strip", "lstrip",     "rstrip",  "lower",
                                                      "upper", "startswith", "endswith"};
constexpr std::array<std::string_view, 3> kTests = {"defined", "none", "string"};
constexpr std::array<std::string_view, 7> kComparisons = {"==", "!=", "<", "<=", ">", ">=", "in"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The tokens of one tag.
class ExpressionParser {
 public:
  explicit ExpressionParser(const Piece& piece) : piece_(piece) {}

  const Token& peek(size_t ahead = 0) const {
    return piece_.tokens[std::min(at_ + ahead, piece_.tokens.size() - 1)];
  }
  bool next_is(Token::Kind kind, std::string_view text, size_t ahead = 0) const {
    return peek(ahead).kind == kind && peek(ahead).text == text;
  }
  bool accept(Token::Kind kind, std::string_view text) {
    if (!next_is(kind, text)) return false;
    ++at_;
    return true;
  }
  Status expect_sign(std::string_view sign) {
    if (accept(Token::kSign, sign)) return {};
    return unexpected("\"" + std::string(sign) + "\"");
  }
  Result<std::string> expect_name() {
    if (peek().kind != Token::kName) return unexpected("a name");
    return piece_.tokens[at_++].text;
  }
  Status expect_end() {
    return peek().kind == Token::kEnd ? Status() : unexpected("the tag's end");
  }
  Status unexpected(const std::string& expected) const {
    const std::string found =
        peek().kind == Token::kEnd ? "the tag's end" : "\"" + peek().text.substr(0, 64) + "\"";
    return error_at(piece_.line, "expected " + expected + ", found " + found);
  }
  Status unsupported(const std::string& what) const {
    return error_at(piece_.line, "unsupported " + what);
  }

  Result<ExpressionPtr> expression() {
    if (depth_ >= kMaxDepth) return unsupported("nesting deeper than 64");
    ++depth_;
    auto result = choice();
    --depth_;
    return result;
  }

 private:
  ExpressionPtr make(Expression::Kind kind, std::string name = {}) const {
    auto e = std::make_unique<Expression>();
    e->kind = kind;
    e->line = piece_.line;
    e->name = std::move(name);
    return e;
  }
  template <typename... Operands>
  ExpressionPtr make_of(Expression::Kind kind, std::string name, Operands... operands) const {
    auto e = make(kind, std::move(name));
    (e->operands.push_back(std::move(operands)), ...);
    return e;
  }

  Result<ExpressionPtr> choice() {
    BATON_ASSIGN_OR_RETURN(auto value, disjunction());
    if (!accept(Token::kName, "if")) return value;
    BATON_ASSIGN_OR_RETURN(auto condition, disjunction());
    auto e = make_of(Expression::kChoice, {}, std::move(condition), std::move(value));
    if (accept(Token::kName, "else")) {
      BATON_ASSIGN_OR_RETURN(auto other, expression());
      e->operands.push_back(std::move(other));
    }
    return e;
  }

  Result<ExpressionPtr> disjunction() {
    BATON_ASSIGN_OR_RETURN(auto left, conjunction());
    while (accept(Token::kName, "or")) {
      BATON_ASSIGN_OR_RETURN(auto right, conjunction());
      left = make_of(Expression::kOr, "or", std::move(left), std::move(right));
    }
    return left;
  }

  Result<ExpressionPtr> conjunction() {
    BATON_ASSIGN_OR_RETURN(auto left, negation());
    while (accept(Token::kName, "and")) {
      BATON_ASSIGN_OR_RETURN(auto right, negation());
      left = make_of(Expression::kAnd, "and", std::move(left), std::move(right));
    }
    return left;
  }

  Result<ExpressionPtr> negation() {
    bool negated = false;
    while (accept(Token::kName, "not")) negated = !negated;
    BATON_ASSIGN_OR_RETURN(auto value, comparison());
    if (negated) value = make_of(Expression::kNot, "not", std::move(value));
    return value;
  }

  Result<ExpressionPtr> comparison() {
    BATON_ASSIGN_OR_RETURN(auto left, sum());
    const bool negated = next_is(Token::kName, "not") && next_is(Token::kName, "in", 1);
    if (negated) ++at_;
    const bool word = next_is(Token::kName, "in");
    if (!word && !(peek().kind == Token::kSign && contains(kComparisons, peek().text))) return left;
    const std::string sign = piece_.tokens[at_++].text;
    BATON_ASSIGN_OR_RETURN(auto right, sum());
    if (contains(kComparisons, peek().text) && peek().kind != Token::kString) {
      return unsupported("chain of comparisons");
    }
    auto e = make_of(Expression::kBinary, sign, std::move(left), std::move(right));
    if (negated) e = make_of(Expression::kNot, "not", std::move(e));
    return e;
  }

  // + - ~ and, binding closer, %.
  Result<ExpressionPtr> sum() {
    BATON_ASSIGN_OR_RETURN(auto left, remainder());
    while (next_is(Token::kSign, "+") || next_is(Token::kSign, "-") || next_is(Token::kSign, "~")) {
      const std::string sign = piece_.tokens[at_++].text;
      BATON_ASSIGN_OR_RETURN(auto right, remainder());
      left = make_of(Expression::kBinary, sign, std::move(left), std::move(right));
    }
    return left;
  }

  Result<ExpressionPtr> remainder() {
    BATON_ASSIGN_OR_RETURN(auto left, unary());
    while (accept(Token::kSign, "%")) {
      BATON_ASSIGN_OR_RETURN(auto right, unary());
      left = make_of(Expression::kBinary, "%", std::move(left), std::move(right));
    }
    return left;
  }

  Result<ExpressionPtr> unary() {
    const bool negative = accept(Token::kSign, "-");
    BATON_ASSIGN_OR_RETURN(auto value, postfix());
    if (negative) value = make_of(Expression::kNegate, "-", std::move(value));
    return value;
  }

  Result<ExpressionPtr> postfix() {
    BATON_ASSIGN_OR_RETURN(auto value, primary());
    for (;;) {
      if (accept(Token::kSign, ".")) {
        BATON_ASSIGN_OR_RETURN(auto name, expect_name());
        if (next_is(Token::kSign, "(")) {
          if (!contains(kMethods, name)) return unsupported("method \"" + name + "\"");
          value = make_of(Expression::kCall, name, std::move(value));
          value->method = true;
          BATON_RETURN_IF_ERROR(arguments(*value));
        } else {
          value = make_of(Expression::kAttribute, name, std::move(value));
        }
      } else if (accept(Token::kSign, "[")) {
        BATON_ASSIGN_OR_RETURN(auto index, expression());
        BATON_RETURN_IF_ERROR(expect_sign("]"));
        value = make_of(Expression::kIndex, "[]", std::move(value), std::move(index));
      } else if (accept(Token::kSign, "|")) {
        BATON_ASSIGN_OR_RETURN(auto name, expect_name());
        if (!contains(kFilters, name)) return unsupported("filter \"" + name + "\"");
        if (next_is(Token::kSign, "(")) return unsupported("argument of filter \"" + name + "\"");
        value = make_of(Expression::kFilter, name, std::move(value));
      } else if (accept(Token::kName, "is")) {
        const bool negated = accept(Token::kName, "not");
        BATON_ASSIGN_OR_RETURN(auto name, expect_name());
        if (!contains(kTests, name)) return unsupported("test \"" + name + "\"");
        value = make_of(Expression::kTest, name, std::move(value));
        if (negated) value = make_of(Expression::kNot, "not", std::move(value));
      } else {
        return value;
      }
    }
  }

  // "(a, b)", as operands after those that are there.
  Status arguments(Expression& call) {
    BATON_RETURN_IF_ERROR(expect_sign("("));
    while (!accept(Token::kSign, ")")) {
      BATON_ASSIGN_OR_RETURN(auto argument, expression());
      call.operands.push_back(std::move(argument));
      if (!next_is(Token::kSign, ")")) BATON_RETURN_IF_ERROR(expect_sign(","));
    }
    const bool one = call.name == "startswith" || call.name == "endswith" || !call.method;
    const size_t expected = (call.method ? 1 : 0) + (one ? 1 : 0);
    if (call.operands.size() != expected) return unsupported("arguments of \"" + call.name + "\"");
    return {};
  }

  Result<ExpressionPtr> primary() {
    const Token token = peek();
    if (token.kind == Token::kString) {
      auto e = make(Expression::kLiteral);
      std::string text;
      while (peek().kind == Token::kString) text += piece_.tokens[at_++].text;
      e->value.data = Text(std::move(text), /*own=*/true);
      return e;
    }
    if (token.kind == Token::kInteger) {
      ++at_;
      auto e = make(Expression::kLiteral);
      e->value.data = token.number;
      return e;
    }
    if (token.kind == Token::kName) return named();
    if (accept(Token::kSign, "(")) {
      BATON_ASSIGN_OR_RETURN(auto inner, expression());
      BATON_RETURN_IF_ERROR(expect_sign(")"));
      return inner;
    }
    if (accept(Token::kSign, "[")) {
      auto e = make(Expression::kList);
      while (!accept(Token::kSign, "]")) {
        BATON_ASSIGN_OR_RETURN(auto item, expression());
        e->operands.push_back(std::move(item));
        if (!next_is(Token::kSign, "]")) BATON_RETURN_IF_ERROR(expect_sign(","));
      }
      return e;
    }
    return unexpected("a value");
  }

  Result<ExpressionPtr> named() {
    const std::string name = piece_.tokens[at_++].text;
    if (next_is(Token::kSign, "(")) {
      if (name != "raise_exception") return unsupported("function \"" + name + "\"");
      auto call = make(Expression::kCall, name);
      BATON_RETURN_IF_ERROR(arguments(*call));
      return call;
    }
    auto e = make(Expression::kLiteral);
    if (name == "true" || name == "True") {
      e->value.data = true;
    } else if (name == "false" || name == "False") {
      e->value.data = false;
    } else if (name == "none" || name == "None") {
      e->value.data = nullptr;
    } else {
      e = make(Expression::kName, name);
    }
    return e;
  }

  const Piece& piece_;
  size_t at_ = 0;
  int depth_ = 0;
};

class Parser {
 public:
  explicit Parser(const std::vector<Piece>& pieces) : pieces_(pieces) {}

  Result<std::vector<Node>> run() {
    std::vector<Node> program;
    BATON_RETURN_IF_ERROR(block(program, 0));
    if (at_ < pieces_.size()) {
      return error_at(pieces_[at_].line, "\"" + keyword(pieces_[at_]) + "\" without its beginning");
    }
    return program;
  }

 private:
  static std::string keyword(const Piece& piece) {
    return piece.kind == Piece::kStatement ? piece.tokens[0].text : std::string();
  }
  static bool closes(const std::string& word) {
    return word == "elif" || word == "else" || word == "endif" || word == "endfor";
  }

  // Up to a statement that closes or continues the one around it, which is left to the caller.
  Status block(std::vector<Node>& out, int depth) {
    if (depth > kMaxDepth)
      return error_at(pieces_[at_ - 1].line, "unsupported nesting deeper than 64");
    for (; at_ < pieces_.size() && !closes(keyword(pieces_[at_]));) {
      const Piece& piece = pieces_[at_++];
      Node node;
      node.line = piece.line;
      if (piece.kind == Piece::kText) {
        node.kind = Node::kText;
        node.text = piece.text;
      } else if (piece.kind == Piece::kOutput) {
        node.kind = Node::kOutput;
        ExpressionParser parser(piece);
        BATON_ASSIGN_OR_RETURN(node.expression, parser.expression());
        BATON_RETURN_IF_ERROR(parser.expect_end());
      } else {
        BATON_RETURN_IF_ERROR(statement(piece, node, depth));
      }
      out.push_back(std::move(node));
    }
    return {};
  }

  Status statement(const Piece& piece, Node& node, int depth) {
    const std::string word = keyword(piece);
    if (word == "if") return if_statement(node, depth);
    ExpressionParser parser(piece);
    if (word != "for" && word != "set") {
      return parser.unsupported("statement \"" + word.substr(0, 64) + "\"");
    }
    (void)parser.expect_name();  // the word itself
    BATON_ASSIGN_OR_RETURN(node.text, parser.expect_name());
    if (word == "set") {
      node.kind = Node::kSet;
      if (parser.peek().kind == Token::kEnd) return parser.unsupported("\"set\" of a block");
      if (parser.next_is(Token::kSign, ".")) return parser.unsupported("\"set\" of an attribute");
      BATON_RETURN_IF_ERROR(parser.expect_sign("="));
      BATON_ASSIGN_OR_RETURN(node.expression, parser.expression());
      return parser.expect_end();
    }
    node.kind = Node::kFor;
    if (!parser.accept(Token::kName, "in")) return parser.unexpected("\"in\"");
    BATON_ASSIGN_OR_RETURN(node.expression, parser.expression());
    if (node.expression->kind == Expression::kChoice)
      return parser.unsupported("\"if\" in \"for\"");
    BATON_RETURN_IF_ERROR(parser.expect_end());
    BATON_RETURN_IF_ERROR(block(node.bodies.emplace_back(), depth + 1));
    return close(piece, "endfor");
  }

  Status if_statement(Node& node, int depth) {
    node.kind = Node::kIf;
    const Piece& first = pieces_[at_ - 1];
    bool open = true;  // no else yet
    for (const Piece* piece = &first;;) {
      ExpressionParser parser(*piece);
      (void)parser.expect_name();
      node.conditions.emplace_back();
      if (open) {
        BATON_ASSIGN_OR_RETURN(node.conditions.back(), parser.expression());
      }
      BATON_RETURN_IF_ERROR(parser.expect_end());
      BATON_RETURN_IF_ERROR(block(node.bodies.emplace_back(), depth + 1));
      const std::string next = at_ < pieces_.size() ? keyword(pieces_[at_]) : std::string();
      if (!open || (next != "elif" && next != "else")) return close(first, "endif");
      open = next == "elif";
      piece = &pieces_[at_++];
    }
  }

  Status close(const Piece& begin, const char* word) {
    if (at_ == pieces_.size() || keyword(pieces_[at_]) != word) {
      return error_at(begin.line, "\"" + keyword(begin) + "\" without its \"" + word + "\"");
    }
    ++at_;
    return {};
  }

  const std::vector<Piece>& pieces_;
  size_t at_ = 0;
};

}  // namespace

Result<std::vector<Node>> parse(const std::vector<Piece>& pieces) { return Parser(pieces).run(); }

}  // namespace baton::reference::jinja
