// Text to tokens and back: byte-level BPE from a GGUF file, or plain bytes for random models.
//
// Thread-safe after creation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "transfer/base/status.h"

namespace baton::reference {

class GgufFile;

// A stretch of text. Names of special tokens ("<|im_end|>") become those tokens only where
// `special_allowed`; elsewhere they are text like any other, so that what a user writes cannot
// end his turn. Words may run over the boundary of two pieces.
struct TextPiece {
  std::string text;
  bool special_allowed = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // kInvalidArgument, naming the byte offset, when the text is not UTF-8. The caller bounds the
  // length (time is about linear in it).
  Result<std::vector<uint32_t>> encode(std::span<const TextPiece> pieces) const;
  Result<std::vector<uint32_t>> encode(std::string_view text, bool special_allowed = false) const;

  virtual uint32_t vocab_size() const = 0;
  // The bytes that a token stands for (possibly part of a UTF-8 sequence); the name of a special
  // token. Empty for ids beyond the vocabulary. Valid as long as the tokenizer.
  virtual std::string_view token_bytes(uint32_t token) const = 0;
  virtual bool is_special(uint32_t token) const = 0;
  // Text of all tokens, special ones left out; what is not UTF-8 becomes U+FFFD.
  std::string decode(std::span<const uint32_t> tokens) const;

  // Byte-level BPE ("gpt2" model with the "smollm" or "gpt-2" pre-tokenizer).
  // kInvalidArgument names file, key and expectation.
  static Result<std::unique_ptr<Tokenizer>> from_gguf(const GgufFile& file);
  // Token = byte below 256, then the special tokens 256 <|endoftext|> (bos), 257 <|im_end|> (eos),
  // 258 <|im_start|>, 259 <|pad|>; higher ids, which only a model can produce, read "[id]".
  // vocab_size at least 260 (CHECK).
  static std::unique_ptr<Tokenizer> bytes(uint32_t vocab_size);

 protected:
  // Encodes text without special tokens; it is UTF-8.
  virtual Status append_text(std::string_view text, std::vector<uint32_t>& out) const = 0;
  void add_special(std::string name, uint32_t token);

 private:
  struct Special {
    std::string name;
    uint32_t token;
  };
  const Special* special_at(std::string_view text) const;

  std::vector<Special> specials_;  // the longest first
};

// Turns tokens into text as they come: holds back what may still become a UTF-8 character.
// Externally synchronised; the tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  // The text that is certain now: valid UTF-8, possibly empty.
  std::string push(uint32_t token);
  // What was held back, as U+FFFD; empty when nothing was.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
};

}  // namespace baton::reference
