// Cuts text into the words that byte-level BPE never merges across.
//
// Thread-safe after creation.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "transfer/base/status.h"

namespace baton::reference {

class WordSplitter {
 public:
  // digits_alone: every numeric character is a word of its own ("smollm"); otherwise the rule of
  // GPT-2.
  static Result<WordSplitter> create(bool digits_alone);
  WordSplitter(WordSplitter&&) noexcept;
  WordSplitter& operator=(WordSplitter&&) noexcept;
  ~WordSplitter();

  // Appends the words of `text`, which is UTF-8; together they are all of it.
  // kInternal: the pattern matcher failed (out of memory).
  Status split(std::string_view text, std::vector<std::string_view>& words) const;

 private:
  struct Pattern;
  explicit WordSplitter(std::unique_ptr<const Pattern> words, std::unique_ptr<const Pattern> digit);

  std::unique_ptr<const Pattern> words_;
  std::unique_ptr<const Pattern> digit_;  // null: digits are not cut out first
};

}  // namespace baton::reference
