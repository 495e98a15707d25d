// What an object of the S3 tier is: one chunk that says itself what it is.
//
//   offset         bytes
//   0              8      magic "BATONKV\n"
//   8              4      format version, little-endian
//   12             4      length of the header: kHeaderBytes
//   16             4      length of the JSON
//   20             …      JSON, ASCII; then zeros
//   16352          32     SHA-256 of all that is before it
//   16384          …      layer 0, layer 1, …: each of layer_bytes, without padding
//
// The JSON (README.md shows one) names key, groups, fingerprint, tenant, tokens, payload order, and
// for each layer its offset in the object and its checksum. The header's length is fixed, so that
// one request brings it and layer 0.
//
// Names: <prefix>/<fingerprint>/<tenant>/<key>-<kv group>-<head group>, the first three in
// hexadecimal digits, so that what belongs to a model, or to a tenant of it, has a prefix.
//
// Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "transfer/base/status.h"
#include "transfer/chunk.h"
#include "transfer/tiers/tier.h"

namespace baton::s3 {

inline constexpr uint32_t kObjectFormatVersion = 1;
inline constexpr size_t kHeaderBytes = 16384;
// As many as surely fit into the header.
inline constexpr uint32_t kMaxLayers = 400;
// Of a whole object: what S3 takes in one PUT.
inline constexpr uint64_t kMaxObjectBytes = uint64_t{5} << 30;

using Header = std::array<std::byte, kHeaderBytes>;

// kInvalidArgument naming the value where the chunk has no layers, more than kMaxLayers, empty
// ones, more bytes than its slot, or makes an object of more than kMaxObjectBytes.
Result<Header> encode_header(const Chunk& chunk);

// The chunk that the header tells of, without a slot. kChecksum where it does not verify or
// contradicts itself, kRefused, naming both versions, where it is of another format version.
Result<Chunk> decode_header(std::span<const std::byte, kHeaderBytes> header);

inline uint64_t layer_offset(uint32_t layer, uint64_t segment_bytes) {
  return kHeaderBytes + uint64_t{layer} * segment_bytes;
}
inline uint64_t payload_bytes(uint64_t object_bytes) {
  return object_bytes < kHeaderBytes ? 0 : object_bytes - kHeaderBytes;
}

// `prefix` as in S3Config.
std::string object_name(const std::string& prefix, const ChunkOrigin& origin, const ChunkId& id);

struct ObjectName {
  ChunkOrigin origin;
  ChunkId id;
};
// Nothing where it is no name that object_name() makes.
std::optional<ObjectName> parse_object_name(const std::string& prefix, std::string_view name);

// What the names of all that the filter lets pass begin with; as long as it can be.
std::string listing_prefix(const std::string& prefix, const ChunkFilter& filter);
bool matches(const ChunkFilter& filter, const ChunkOrigin& origin);

}  // namespace baton::s3
