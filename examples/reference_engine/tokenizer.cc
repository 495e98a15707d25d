#include "examples/reference_engine/tokenizer.h"

#include <algorithm>

#include "transfer/base/check.h"
#include "transfer/base/utf8.h"

namespace baton::reference {

void Tokenizer::add_special(std::string name, uint32_t token) {
  const auto place = std::find_if(specials_.begin(), specials_.end(), [&](const Special& other) {
    return other.name.size() < name.size();
  });
  specials_.insert(place, {std::move(name), token});
}

const Tokenizer::Special* Tokenizer::special_at(std::string_view text) const {
  for (const auto& special : specials_) {
    if (text.starts_with(special.name)) return &special;
  }
  return nullptr;
}

Result<std::vector<uint32_t>> Tokenizer::encode(std::span<const TextPiece> pieces) const {
  std::string text;  // since the last special token
  std::vector<uint32_t> tokens;
  size_t offset = 0;
  for (const TextPiece& piece : pieces) {
    if (const auto invalid = find_invalid_utf8(piece.text)) {
      return Status(Code::kInvalidArgument,
                    "text: expected UTF-8, found an invalid byte at offset " +
                        std::to_string(offset + *invalid));
    }
    offset += piece.text.size();
    std::string_view rest = piece.text;
    size_t plain = 0;  // bytes of `rest` known to hold no special token
    while (piece.special_allowed && plain < rest.size()) {
      const Special* special = special_at(rest.substr(plain));
      if (special == nullptr) {
        ++plain;
        continue;
      }
      text += rest.substr(0, plain);
      BATON_RETURN_IF_ERROR(append_text(text, tokens));
      text.clear();
      tokens.push_back(special->token);
      rest.remove_prefix(plain + special->name.size());
      plain = 0;
    }
    text += rest;
  }
  BATON_RETURN_IF_ERROR(append_text(text, tokens));
  return tokens;
}

Result<std::vector<uint32_t>> Tokenizer::encode(std::string_view text, bool special_allowed) const {
  const TextPiece piece{std::string(text), special_allowed};
  return encode({&piece, 1});
}

std::string Tokenizer::decode(std::span<const uint32_t> tokens) const {
  StreamDecoder decoder(*this);
  std::string text;
  for (const uint32_t token : tokens) text += decoder.push(token);
  return text + decoder.finish();
}

std::string StreamDecoder::push(uint32_t token) {
  if (!tokenizer_->is_special(token)) pending_ += tokenizer_->token_bytes(token);
  std::string text;
  drain_utf8(pending_, text, /*flush=*/false);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  drain_utf8(pending_, text, /*flush=*/true);
  return text;
}

namespace {

class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(uint32_t vocab_size) {
    BATON_CHECK(vocab_size >= 260, "the byte tokenizer has 260 tokens");
    for (uint32_t i = 0; i < 256; ++i) bytes_.emplace_back(1, static_cast<char>(i));
    for (const char* name : {"<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|pad|>"}) {
      add_special(name, static_cast<uint32_t>(bytes_.size()));
      bytes_.emplace_back(name);
    }
    for (uint32_t i = 260; i < vocab_size; ++i) bytes_.push_back("[" + std::to_string(i) + "]");
  }

  uint32_t vocab_size() const override { return static_cast<uint32_t>(bytes_.size()); }
  std::string_view token_bytes(uint32_t token) const override {
    return token < bytes_.size() ? std::string_view(bytes_[token]) : std::string_view();
  }
  bool is_special(uint32_t token) const override { return token >= 256 && token < 260; }

 protected:
  Status append_text(std::string_view text, std::vector<uint32_t>& out) const override {
    for (const char c : text) out.push_back(static_cast<uint8_t>(c));
    return {};
  }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::bytes(uint32_t vocab_size) {
  return std::make_unique<ByteTokenizer>(vocab_size);
}

}  // namespace baton::reference
