// Template text -> pieces with tokens.
#include <algorithm>
#include <cctype>
#include <charconv>

#include "examples/reference_engine/jinja.h"

namespace baton::reference::jinja {
namespace {

constexpr size_t kMaxTemplate = 1 << 20;

bool name_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool space(char c) { return std::isspace(static_cast<unsigned char>(c)); }

class Cutter {
 public:
  explicit Cutter(std::string_view source) : rest_(source) {}

  Result<std::vector<Piece>> run() {
    while (!rest_.empty()) {
      const size_t open = find_tag();
      text_ += rest_.substr(0, open);
      advance(std::min(open, rest_.size()));
      if (!rest_.empty()) BATON_RETURN_IF_ERROR(tag());
    }
    flush_text();
    return std::move(pieces_);
  }

 private:
  size_t find_tag() const {
    for (size_t at = 0; at + 1 < rest_.size(); ++at) {
      if (rest_[at] == '{' &&
          (rest_[at + 1] == '{' || rest_[at + 1] == '%' || rest_[at + 1] == '#'))
        return at;
    }
    return rest_.size();
  }

  void advance(size_t count) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + count, '\n'));
    rest_.remove_prefix(count);
  }

  void flush_text() {
    if (!text_.empty()) pieces_.push_back({Piece::kText, line_, std::exchange(text_, {}), {}});
  }

  // White space between the last line break and a block tag; kept where other text stands there.
  void strip_line_start() {
    size_t end = text_.size();
    while (end > 0 && (text_[end - 1] == ' ' || text_[end - 1] == '\t')) --end;
    const bool line_start = end == 0 ? pieces_.empty() || after_newline_ : text_[end - 1] == '\n';
    if (line_start) text_.resize(end);
  }

  Status tag() {
    const char sign = rest_[1];
    const int line = line_;
    advance(2);
    const char control = rest_.empty() ? '\0' : rest_[0];
    if (control == '-') {
      while (!text_.empty() && space(text_.back())) text_.pop_back();
    } else if (sign != '{' && control != '+') {
      strip_line_start();
    }
    if (control == '-' || control == '+') advance(1);
    flush_text();

    Piece piece{sign == '{' ? Piece::kOutput : Piece::kStatement, line, {}, {}};
    if (sign == '#') {
      const size_t close = rest_.find("#}");
      if (close == std::string_view::npos) return error_at(line, "a comment without its end");
      const bool strip = close > 0 && rest_[close - 1] == '-';
      advance(close + 2);
      after_tag(strip, /*block=*/true);
      return {};
    }
    bool strip = false;
    BATON_RETURN_IF_ERROR(tokens(sign == '{' ? "}}" : "%}", piece, strip));
    pieces_.push_back(std::move(piece));
    after_tag(strip, sign == '%');
    return {};
  }

  void after_tag(bool strip, bool block) {
    after_newline_ = false;
    if (strip) {
      size_t count = 0;
      while (count < rest_.size() && space(rest_[count])) ++count;
      advance(count);
    } else if (block && rest_.starts_with('\n')) {
      advance(1);
      after_newline_ = true;
    }
  }

  // Up to and with `close`.
  Status tokens(std::string_view close, Piece& piece, bool& strip) {
    for (;;) {
      while (!rest_.empty() && space(rest_[0])) advance(1);
      strip = rest_.starts_with('-') && rest_.substr(1).starts_with(close);
      if (strip) advance(1);
      if (rest_.starts_with(close)) {
        advance(2);
        piece.tokens.push_back({});
        return {};
      }
      if (rest_.empty()) return error_at(piece.line, "a tag without its end");
      BATON_RETURN_IF_ERROR(token(piece));
    }
  }

  Status token(Piece& piece) {
    const char c = rest_[0];
    if (c == '\'' || c == '"') return string(piece);
    size_t size = 1;
    if (name_character(c)) {
      while (size < rest_.size() && name_character(rest_[size])) ++size;
      Token token{Token::kName, std::string(rest_.substr(0, size))};
      if (std::isdigit(static_cast<unsigned char>(c))) {
        token.kind = Token::kInteger;
        const char* end = token.text.data() + size;
        const auto [stop, error] = std::from_chars(token.text.data(), end, token.number);
        if (stop != end || error != std::errc()) {
          return error_at(line_, "expected an integer, found \"" + token.text.substr(0, 64) + "\"");
        }
      }
      piece.tokens.push_back(std::move(token));
    } else {
      for (const std::string_view sign : {"==", "!=", "<=", ">="}) {
        if (rest_.starts_with(sign)) size = 2;
      }
      if (size == 1 && std::string_view("<>=+-%~.,()[]|").find(c) == std::string_view::npos) {
        return error_at(line_, std::string("unsupported sign \"") + c + "\"");
      }
      piece.tokens.push_back({Token::kSign, std::string(rest_.substr(0, size))});
    }
    advance(size);
    return {};
  }

  Status string(Piece& piece) {
    const char quote = rest_[0];
    std::string text;
    for (size_t at = 1; at < rest_.size(); ++at) {
      if (rest_[at] == quote) {
        advance(at + 1);
        piece.tokens.push_back({Token::kString, std::move(text)});
        return {};
      }
      if (rest_[at] == '\\' && at + 1 < rest_.size()) {
        const char escaped = rest_[++at];
        switch (escaped) {
          case 'n':
            text += '\n';
            break;
          case 't':
            text += '\t';
            break;
          case 'r':
            text += '\r';
            break;
          case '\\':
          case '\'':
          case '"':
            text += escaped;
            break;
          default:
            return error_at(line_, std::string("unsupported escape \"\\") + escaped + "\"");
        }
      } else {
        text += rest_[at];
      }
    }
    return error_at(line_, "a string without its end");
  }

  std::string_view rest_;
  int line_ = 1;
  std::string text_;            // since the last tag
  bool after_newline_ = false;  // a line break after the last tag was dropped
  std::vector<Piece> pieces_;
};

}  // namespace

Status error_at(int line, const std::string& what) {
  return Status(Code::kInvalidArgument,
                "chat template, line " + std::to_string(line) + ": " + what);
}

Result<std::vector<Piece>> cut(std::string_view source) {
  if (source.size() > kMaxTemplate) return error_at(1, "expected at most 1 MiB");
  // Jinja drops one line break at the end of a template.
  if (source.ends_with('\n')) source.remove_suffix(1);
  return Cutter(source).run();
}

}  // namespace baton::reference::jinja
