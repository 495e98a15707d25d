#include "transfer/control/handshake.h"

#include <algorithm>

#include "transfer/base/text.h"
#include "transfer/base/utf8.h"

namespace baton::control {
namespace {

using protocol::Hello;
using protocol::Refuse;
using protocol::RefuseReason;

// C0, DEL, or C1 (U+0080 to U+009F: c2 80 to c2 9f).
bool is_control(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
  return byte(0) == 0xc2 && byte(1) < 0xa0;
}

std::string block_of(const Hello& hello) {
  if (hello.opaque_block_bytes == 0) return "described by strides";
  return "opaque of " + std::to_string(hello.opaque_block_bytes) + " bytes and " +
         std::to_string(hello.opaque_block_tokens) + " tokens";
}

}  // namespace

std::optional<Refuse> disagreement(const Hello& ours, const Hello& theirs) {
  const auto refuse = [](RefuseReason reason, std::string text) {
    return Refuse{.reason = reason, .text = std::move(text)};
  };
  if (ours.version != theirs.version) {
    return refuse(RefuseReason::kVersion,
                  differs("protocol version", ours.version, theirs.version));
  }
  if (ours.node == theirs.node) {
    const bool self = ours.incarnation == theirs.incarnation;
    return refuse(
        RefuseReason::kIncarnation,
        "node " + ours.node +
            (self ? " has dialled itself" : " is the address of both nodes, here and there"));
  }
  if (ours.has_token != theirs.has_token) {
    const auto has = [](const Hello& hello) {
      return hello.node + (hello.has_token ? " has a token" : " has none");
    };
    return refuse(RefuseReason::kAuthentication,
                  has(ours) + " and " + has(theirs) +
                      ": both need the same, in BATON_TOKEN or BATON_TOKEN_FILE");
  }
  if (ours.store || theirs.store) return std::nullopt;
  if (std::string text = ours.fingerprint.difference(theirs.fingerprint); !text.empty()) {
    return refuse(RefuseReason::kFingerprint, std::move(text));
  }
  if (ours.chunk_tokens != theirs.chunk_tokens) {
    return refuse(RefuseReason::kChunkTokens,
                  differs("chunk_tokens", ours.chunk_tokens, theirs.chunk_tokens));
  }
  if (ours.opaque_block_bytes != theirs.opaque_block_bytes ||
      ours.opaque_block_tokens != theirs.opaque_block_tokens) {
    return refuse(RefuseReason::kLayout,
                  "the KV block is " + block_of(ours) + " here and " + block_of(theirs) + " there");
  }
  return std::nullopt;
}

bool decides(const Hello& ours, const Hello& theirs) { return ours.node < theirs.node; }

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = next_utf8(text);
    const std::string_view character = text.substr(0, step.length);
    if (step.kind != Utf8Step::kCharacter || is_control(character)) {
      out += '?';
    } else {
      out += character;
    }
    text.remove_prefix(step.length);
  }
  return out;
}

Lives::Verdict Lives::judge(const std::string& node, Incarnation incarnation) const {
  const auto found = nodes_.find(node);
  if (found == nodes_.end()) return Verdict::kFirst;
  if (found->second.current == incarnation) return Verdict::kCurrent;
  const auto& past = found->second.past;
  return std::find(past.begin(), past.end(), incarnation) != past.end() ? Verdict::kOver
                                                                        : Verdict::kNewer;
}

void Lives::begin(const std::string& node, Incarnation incarnation) {
  const auto [found, first] = nodes_.try_emplace(node);
  Node& seen = found->second;
  if (first) {
    recency_.push_front(node);
    seen.in_recency = recency_.begin();
    seen.current = incarnation;
    if (nodes_.size() > kMaxNodes) {
      nodes_.erase(recency_.back());
      recency_.pop_back();
    }
    return;
  }
  recency_.splice(recency_.begin(), recency_, seen.in_recency);
  if (seen.current == incarnation) return;
  seen.past.push_front(std::exchange(seen.current, incarnation));
  if (seen.past.size() > kMaxPast) seen.past.pop_back();
}

}  // namespace baton::control
