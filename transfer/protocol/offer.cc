#include "transfer/protocol/offer.h"

#include <algorithm>

#include "transfer/base/check.h"
#include "transfer/base/text.h"
#include "transfer/base/utf8.h"

namespace baton::protocol {
namespace {

std::string hex(const ChunkKey& key) { return to_hex(key.bytes.data(), key.bytes.size()); }

Status bad_offer(std::string text) { return {Code::kProtocol, "offer: " + std::move(text)}; }

Status check_group(const GroupOffer& group, uint32_t chunk_tokens, const std::string& name) {
  if (group.layers == 0 || group.layers > kMaxLayers) {
    return bad_offer(name + " has " + number(group.layers) + " layers, expected 1 to " +
                     number(kMaxLayers));
  }
  if (group.order < PayloadOrder::kTokenHead || group.order > PayloadOrder::kOpaque) {
    return bad_offer(name + " has payload order " + number(static_cast<uint8_t>(group.order)) +
                     ", expected 1 to 3");
  }
  const bool opaque = group.order == PayloadOrder::kOpaque;
  if (opaque != (group.opaque_block_tokens != 0)) {
    return bad_offer(name + " has payload order " + number(static_cast<uint8_t>(group.order)) +
                     " and opaque blocks of " + number(group.opaque_block_tokens) + " tokens");
  }
  if (opaque && chunk_tokens % group.opaque_block_tokens != 0) {
    return bad_offer(name + " has opaque blocks of " + number(group.opaque_block_tokens) +
                     " tokens, of which chunks of " + number(chunk_tokens) + " are no multiple");
  }
  const uint64_t units = opaque ? chunk_tokens / group.opaque_block_tokens : chunk_tokens;
  const uint64_t bytes = units * group.token_bytes;
  if (bytes == 0 || bytes > kMaxSegmentBytes) {
    return bad_offer(name + " has segments of " + number(bytes) + " bytes, expected 1 to " +
                     number(kMaxSegmentBytes));
  }
  return {};
}

std::string differs_in_offer(const std::string& what, uint64_t here, uint64_t there) {
  return differs(what, here, there, "in the offer");
}

std::optional<OfferDifference> compare_layout(const Expectation& expected, const Offer& offer) {
  const auto layout = [](std::string text) {
    return OfferDifference{RefuseReason::kLayout, std::move(text)};
  };
  if (expected.groups.size() != offer.groups.size()) {
    return layout(
        differs_in_offer("number of groups", expected.groups.size(), offer.groups.size()));
  }
  for (size_t i = 0; i < offer.groups.size(); ++i) {
    const GroupOffer& ours = expected.groups[i];
    const GroupOffer& theirs = offer.groups[i];
    const std::string group = "group " + number(i) + ": ";
    const struct {
      const char* name;
      uint64_t here, there;
    } fields[] = {{"kv_group", ours.kv_group, theirs.kv_group},
                  {"head_group", ours.head_group, theirs.head_group},
                  {"layers", ours.layers, theirs.layers},
                  {"token_bytes", ours.token_bytes, theirs.token_bytes},
                  {"opaque_block_tokens", ours.opaque_block_tokens, theirs.opaque_block_tokens}};
    for (const auto& field : fields) {
      if (field.here != field.there) {
        return layout(differs_in_offer(group + field.name, field.here, field.there));
      }
    }
  }
  return std::nullopt;
}

std::optional<OfferDifference> compare_keys(const Expectation& expected, const Offer& offer) {
  const auto keys = [](std::string text) {
    return OfferDifference{RefuseReason::kKeys, std::move(text)};
  };
  const size_t common = std::min(expected.keys.size(), offer.keys.size());
  for (size_t i = 0; i < common; ++i) {
    if (expected.keys[i] != offer.keys[i]) {
      return keys("key of chunk " + number(i) + " is " + hex(expected.keys[i]) + " here and " +
                  hex(offer.keys[i]) + " in the offer");
    }
  }
  if (expected.flow == Flow::kFetch && offer.keys.size() < expected.keys.size()) {
    const uint64_t run_tokens = uint64_t{expected.chunk_tokens} * offer.keys.size();
    if (offer.tokens == run_tokens) return std::nullopt;
    return keys(differs_in_offer("tokens of the leading " + number(offer.keys.size()) + " chunks",
                                 run_tokens, offer.tokens));
  }
  if (expected.tokens != offer.tokens) {
    return keys(differs_in_offer("tokens", expected.tokens, offer.tokens));
  }
  if (expected.keys.size() != offer.keys.size()) {
    return keys(differs_in_offer("number of chunks", expected.keys.size(), offer.keys.size()));
  }
  return std::nullopt;
}

}  // namespace

Status check_offer(const Offer& offer) {
  if (offer.tokens == 0 || offer.chunk_tokens == 0) {
    return bad_offer(number(offer.tokens) + " tokens in chunks of " + number(offer.chunk_tokens));
  }
  const uint64_t chunks = (uint64_t{offer.tokens} + offer.chunk_tokens - 1) / offer.chunk_tokens;
  if (offer.keys.size() != chunks || chunks > kMaxChunks) {
    return bad_offer(number(offer.keys.size()) + " keys for " + number(chunks) +
                     " chunks, expected as many and at most " + number(kMaxChunks));
  }
  if (offer.groups.empty() || offer.groups.size() > kMaxGroups) {
    return bad_offer(number(offer.groups.size()) + " groups, expected 1 to " + number(kMaxGroups));
  }
  uint64_t segments = 0;
  for (size_t i = 0; i < offer.groups.size(); ++i) {
    const GroupOffer& group = offer.groups[i];
    const std::string name = "group " + number(i);
    BATON_RETURN_IF_ERROR(check_group(group, offer.chunk_tokens, name));
    for (size_t j = 0; j < i; ++j) {
      if (offer.groups[j].kv_group == group.kv_group &&
          offer.groups[j].head_group == group.head_group) {
        return bad_offer("groups " + number(j) + " and " + number(i) + " are both KV group " +
                         number(group.kv_group) + ", head group " + number(group.head_group));
      }
    }
    segments += chunks * group.layers;
  }
  if (segments > kMaxSegments) {
    return bad_offer(number(segments) + " segments, expected at most " + number(kMaxSegments));
  }
  return {};
}

std::optional<OfferDifference> compare_offer(const Expectation& expected, const Offer& offer) {
  if (expected.chunk_tokens != offer.chunk_tokens) {
    return OfferDifference{
        RefuseReason::kChunkTokens,
        differs_in_offer("chunk_tokens", expected.chunk_tokens, offer.chunk_tokens)};
  }
  if (auto difference = compare_layout(expected, offer)) return difference;
  return compare_keys(expected, offer);
}

std::vector<bool> chunks_held(const SegmentMap& map, uint32_t held_tokens,
                              const std::vector<bool>& held_chunks) {
  BATON_CHECK(held_chunks.empty() || held_chunks.size() == map.chunks(),
              "held_chunks has one bit a chunk");
  std::vector<bool> held = held_chunks;
  held.resize(map.chunks());
  for (uint32_t chunk = 0; chunk < map.chunks(); ++chunk) {
    const uint64_t end = uint64_t{map.first_token_of_chunk(chunk)} + map.tokens_of_chunk(chunk);
    if (end > held_tokens) break;
    held[chunk] = true;
  }
  return held;
}

uint64_t largest_needed_segment(const SegmentMap& map, const std::vector<bool>& held) {
  uint64_t largest = 0;
  for (uint16_t group = 0; group < map.groups(); ++group) {
    for (uint32_t chunk = 0; chunk < map.chunks(); ++chunk) {
      if (!held[chunk]) largest = std::max(largest, map.bytes(map.index({group, chunk, 0})));
    }
  }
  return largest;
}

std::string bounded_text(std::string text) {
  text.resize(cut_utf8(text, kMaxText).size());
  return text;
}

}  // namespace baton::protocol
