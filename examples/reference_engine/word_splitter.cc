#include "examples/reference_engine/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

namespace baton::reference {
namespace {

// GPT-2's rule: contractions; letters, numbers or other signs with one leading space; spaces (of
// which the last goes to the word that follows).
constexpr const char* kWords =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kDigit = R"(\p{N})";

struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
using MatchData = std::unique_ptr<pcre2_match_data, FreeMatch>;

Status pcre2_error(const char* what, int code) {
  PCRE2_UCHAR text[128] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return Status(Code::kInternal, std::string(what) + ": " + reinterpret_cast<const char*>(text),
                code);
}

}  // namespace

struct WordSplitter::Pattern {
  explicit Pattern(pcre2_code* code) : code(code) {}
  ~Pattern() { pcre2_code_free(code); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  static Result<std::unique_ptr<const Pattern>> compile(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (code == nullptr) return pcre2_error("compiling the word pattern", error);
    auto compiled = std::make_unique<const Pattern>(code);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT it is interpreted
    return compiled;
  }

  // The next match at or after `at`; false: none. `text` is known to be UTF-8.
  Result<bool> find(std::string_view text, size_t at, pcre2_match_data* match, size_t& begin,
                    size_t& end) const {
    const int count = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_NO_UTF_CHECK, match, nullptr);
    if (count == PCRE2_ERROR_NOMATCH) return false;
    if (count < 0) return pcre2_error("splitting text into words", count);
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match);
    begin = range[0];
    end = range[1];
    return true;
  }

  pcre2_code* code;
};

WordSplitter::WordSplitter(std::unique_ptr<const Pattern> words,
                           std::unique_ptr<const Pattern> digit)
    : words_(std::move(words)), digit_(std::move(digit)) {}
WordSplitter::WordSplitter(WordSplitter&&) noexcept = default;
WordSplitter& WordSplitter::operator=(WordSplitter&&) noexcept = default;
WordSplitter::~WordSplitter() = default;

Result<WordSplitter> WordSplitter::create(bool digits_alone) {
  BATON_ASSIGN_OR_RETURN(auto words, Pattern::compile(kWords));
  std::unique_ptr<const Pattern> digit;
  if (digits_alone) {
    BATON_ASSIGN_OR_RETURN(digit, Pattern::compile(kDigit));
  }
  return WordSplitter(std::move(words), std::move(digit));
}

Status WordSplitter::split(std::string_view text, std::vector<std::string_view>& words) const {
  const MatchData match(pcre2_match_data_create(1, nullptr));
  if (match == nullptr) return Status(Code::kInternal, "splitting text into words: no memory");
  const auto split_run = [&](std::string_view run) -> Status {
    for (size_t at = 0; at < run.size();) {
      size_t begin = 0, end = 0;
      BATON_ASSIGN_OR_RETURN(const bool found, words_->find(run, at, match.get(), begin, end));
      if (!found) begin = end = run.size();
      if (begin > at) words.push_back(run.substr(at, begin - at));
      if (end > begin) words.push_back(run.substr(begin, end - begin));
      at = end;
    }
    return {};
  };
  for (size_t at = 0; at < text.size();) {
    size_t begin = text.size(), end = text.size();
    if (digit_ != nullptr) {
      BATON_ASSIGN_OR_RETURN(const bool found, digit_->find(text, at, match.get(), begin, end));
      if (!found) begin = end = text.size();
    }
    // A run between digits is a text of its own: look-ahead ends where it ends.
    BATON_RETURN_IF_ERROR(split_run(text.substr(at, begin - at)));
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    at = end;
  }
  return {};
}

}  // namespace baton::reference
