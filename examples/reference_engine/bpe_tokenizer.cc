// Byte-level byte-pair encoding: a word's bytes are joined pair by pair, always the pair of the
// lowest rank, the leftmost of equals (Sennrich et al., "Neural Machine Translation of Rare Words
// with Subword Units"; the byte alphabet is GPT-2's).
#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>

#include "examples/reference_engine/gguf.h"
#include "examples/reference_engine/tokenizer.h"
#include "examples/reference_engine/word_splitter.h"
#include "transfer/base/utf8.h"

namespace baton::reference {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr uint64_t kMaxVocab = uint64_t{1} << 20;
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

// GPT-2 writes bytes as printable characters: those that are printable in Latin-1 as themselves,
// the others as U+0100, U+0101, … in order.
std::array<int, 0x180> make_byte_of_character() {
  std::array<int, 0x180> bytes;
  bytes.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    bytes[printable ? byte : next++] = byte;
  }
  return bytes;
}

// The bytes that such text stands for; false where it holds a character of another alphabet.
bool to_bytes(std::string_view text, std::string& out) {
  static const std::array<int, 0x180> kByteOf = make_byte_of_character();
  out.clear();
  while (!text.empty()) {
    const Utf8Step step = next_utf8(text);
    if (step.kind != Utf8Step::kCharacter || step.length > 2) return false;
    const int character = step.length == 1 ? text[0] : (text[0] & 0x1f) << 6 | (text[1] & 0x3f);
    if (character >= 0x180 || kByteOf[character] < 0) return false;
    out += static_cast<char>(kByteOf[character]);
    text.remove_prefix(step.length);
  }
  return true;
}

struct Merge {
  uint32_t rank;
  uint32_t token;
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(WordSplitter splitter) : splitter_(std::move(splitter)) {}

  uint32_t vocab_size() const override { return static_cast<uint32_t>(bytes_.size()); }
  std::string_view token_bytes(uint32_t token) const override {
    return token < bytes_.size() ? std::string_view(bytes_[token]) : std::string_view();
  }
  bool is_special(uint32_t token) const override {
    return token < special_.size() && special_[token];
  }

  Status load(const GgufFile& file) {
    BATON_ASSIGN_OR_RETURN(const auto tokens, file.get_strings("tokenizer.ggml.tokens"));
    BATON_ASSIGN_OR_RETURN(const auto types, file.get_integers("tokenizer.ggml.token_type"));
    BATON_ASSIGN_OR_RETURN(const auto merges, file.get_strings("tokenizer.ggml.merges"));
    if (tokens.empty() || tokens.size() > kMaxVocab || merges.size() > 4 * kMaxVocab) {
      return file.error("metadata \"tokenizer.ggml.tokens\": expected 1 to 2^20 tokens, found " +
                        std::to_string(tokens.size()));
    }
    if (types.size() != tokens.size()) {
      return file.error("metadata \"tokenizer.ggml.token_type\": expected " +
                        std::to_string(tokens.size()) + " entries, found " +
                        std::to_string(types.size()));
    }
    BATON_RETURN_IF_ERROR(load_tokens(file, tokens, types));
    BATON_RETURN_IF_ERROR(load_merges(file, merges));
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = by_bytes_.find(std::string(1, static_cast<char>(byte)));
      byte_token_[byte] = found == by_bytes_.end() ? kNone : found->second;
    }
    return {};
  }

 protected:
  Status append_text(std::string_view text, std::vector<uint32_t>& out) const override {
    std::vector<std::string_view> words;
    BATON_RETURN_IF_ERROR(splitter_.split(text, words));
    Joiner joiner(*this);
    for (const std::string_view word : words) joiner.append(word, out);
    return {};
  }

 private:
  // Joins one word after the other; keeps its memory between them.
  class Joiner {
   public:
    explicit Joiner(const BpeTokenizer& bpe) : bpe_(bpe) {}

    void append(std::string_view word, std::vector<uint32_t>& out) {
      symbols_.clear();
      for (const char c : word) {
        // A byte without a token of its own cannot be written by this vocabulary: left out.
        const uint32_t token = bpe_.byte_token_[static_cast<uint8_t>(c)];
        if (token == kNone) continue;
        const auto at = static_cast<uint32_t>(symbols_.size());
        symbols_.push_back({token, at - 1, at + 1});
      }
      if (symbols_.empty()) return;
      symbols_.back().next = kNone;
      for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) consider(i);
      while (!candidates_.empty()) {
        const Candidate c = candidates_.top();
        candidates_.pop();
        apply(c);
      }
      for (uint32_t i = 0; i != kNone; i = symbols_[i].next) out.push_back(symbols_[i].token);
    }

   private:
    struct Symbol {
      uint32_t token;  // kNone: joined to the one before
      uint32_t previous, next;
    };
    struct Candidate {
      uint32_t rank, left;
      uint32_t left_token, right_token;  // what they were: candidates are not taken back
      uint32_t token;
      bool operator<(const Candidate& other) const {  // the queue's top is the greatest
        return rank != other.rank ? rank > other.rank : left > other.left;
      }
    };

    void consider(uint32_t left) {
      const uint32_t right = symbols_[left].next;
      if (right == kNone) return;
      const uint32_t a = symbols_[left].token, b = symbols_[right].token;
      const auto found = bpe_.merges_.find(uint64_t{a} << 32 | b);
      if (found == bpe_.merges_.end()) return;
      candidates_.push({found->second.rank, left, a, b, found->second.token});
    }

    void apply(const Candidate& c) {
      Symbol& left = symbols_[c.left];
      if (left.token != c.left_token || left.next == kNone) return;
      Symbol& right = symbols_[left.next];
      if (right.token != c.right_token) return;
      left.token = c.token;
      right.token = kNone;
      left.next = right.next;
      if (left.next != kNone) symbols_[left.next].previous = c.left;
      if (left.previous != kNone) consider(left.previous);
      consider(c.left);
    }

    const BpeTokenizer& bpe_;
    std::vector<Symbol> symbols_;
    std::priority_queue<Candidate> candidates_;
  };

  Status load_tokens(const GgufFile& file, std::span<const std::string_view> tokens,
                     std::span<const int64_t> types) {
    bytes_.resize(tokens.size());
    special_.resize(tokens.size());
    for (uint32_t i = 0; i < tokens.size(); ++i) {
      special_[i] = types[i] == kControl || types[i] == kUnknown || types[i] == kUnused;
      if (types[i] != kNormal) {
        bytes_[i] = tokens[i];
        if ((types[i] == kControl || types[i] == kUserDefined) && !tokens[i].empty()) {
          if (special_count_++ >= kMaxSpecial) {
            return file.error("metadata \"tokenizer.ggml.token_type\": expected at most " +
                              std::to_string(kMaxSpecial) + " special tokens");
          }
          add_special(bytes_[i], i);
        }
        continue;
      }
      if (!to_bytes(tokens[i], bytes_[i])) {
        return file.error("metadata \"tokenizer.ggml.tokens\": token " + std::to_string(i) +
                          ": expected characters of the byte alphabet");
      }
      by_bytes_.emplace(bytes_[i], i);
    }
    return {};
  }

  Status load_merges(const GgufFile& file, std::span<const std::string_view> merges) {
    merges_.reserve(merges.size());
    std::string left, right;
    for (uint32_t rank = 0; rank < merges.size(); ++rank) {
      const size_t space = merges[rank].find(' ');
      if (space == std::string_view::npos || !to_bytes(merges[rank].substr(0, space), left) ||
          !to_bytes(merges[rank].substr(space + 1), right)) {
        return bad_merge(file, rank, "two parts of the byte alphabet");
      }
      const auto a = by_bytes_.find(left), b = by_bytes_.find(right);
      const auto joined = by_bytes_.find(left + right);
      if (a == by_bytes_.end() || b == by_bytes_.end() || joined == by_bytes_.end()) {
        return bad_merge(file, rank, "parts and result to be tokens");
      }
      merges_.emplace(uint64_t{a->second} << 32 | b->second, Merge{rank, joined->second});
    }
    return {};
  }

  static Status bad_merge(const GgufFile& file, uint32_t rank, const char* expected) {
    return file.error("metadata \"tokenizer.ggml.merges\": merge " + std::to_string(rank) +
                      ": expected " + expected);
  }

  // Names are compared one by one at every character of a template's text.
  static constexpr uint32_t kMaxSpecial = 4096;

  WordSplitter splitter_;
  std::vector<std::string> bytes_;  // by token
  std::vector<bool> special_;
  uint32_t special_count_ = 0;
  std::unordered_map<std::string, uint32_t> by_bytes_;
  std::unordered_map<uint64_t, Merge> merges_;  // left << 32 | right
  std::array<uint32_t, 256> byte_token_{};
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::from_gguf(const GgufFile& file) {
  BATON_ASSIGN_OR_RETURN(const auto model, file.get_string("tokenizer.ggml.model"));
  if (model != "gpt2") {
    return file.error("metadata \"tokenizer.ggml.model\": expected \"gpt2\", found \"" +
                      std::string(model.substr(0, 100)) + "\"");
  }
  BATON_ASSIGN_OR_RETURN(const auto rule, file.get_string("tokenizer.ggml.pre"));
  if (rule != "smollm" && rule != "gpt-2") {
    return file.error(
        "metadata \"tokenizer.ggml.pre\": expected \"smollm\" or \"gpt-2\", found \"" +
        std::string(rule.substr(0, 100)) + "\"");
  }
  BATON_ASSIGN_OR_RETURN(auto splitter, WordSplitter::create(rule == "smollm"));
  auto tokenizer = std::make_unique<BpeTokenizer>(std::move(splitter));
  BATON_RETURN_IF_ERROR(tokenizer->load(file));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace baton::reference
