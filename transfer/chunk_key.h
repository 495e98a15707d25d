// Chunk keys and fingerprints: what makes two pieces of KV the same bytes.
//
//   root  = SHA-256("baton" ‖ format version ‖ fingerprint ‖ adapter id ‖ salt), each field with
//           its length before it (u32 little-endian)
//   key_i = SHA-256(key_{i-1} ‖ tokens of chunk i as u32 little-endian), key_{-1} = root
//
// Equal keys mean equal prefix, model and salt. KV group and head group stand beside the key.
// Plain values; functions are thread-safe.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace baton {

// Stands in every root: what is hashed in another way is another format.
inline constexpr uint32_t kKeyFormatVersion = 1;

struct ChunkKey {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const ChunkKey&) const = default;
  std::string to_hex() const;
};

// What must be equal for KV bytes to mean the same on both ends. Compared field by field, so that
// a refusal names the field and both values.
struct Fingerprint {
  std::string model;      // id and revision, e.g. the hash of the weights file
  std::string dtype;      // of the KV cache: "float32", "bfloat16", …
  uint32_t layers = 0;    // of the whole model
  uint32_t planes = 0;    // 2: K and V; 1: MLA
  uint32_t kv_heads = 0;  // of the whole model, all ranks
  uint32_t head_dim = 0;
  std::string rope;           // canonical text of the RoPE settings
  std::string opaque_layout;  // name of an engine's own packing; empty where strides describe it

  bool operator==(const Fingerprint&) const = default;
  // "" when equal, else "<field> is '<ours>' here and '<theirs>' there" for the first difference.
  std::string difference(const Fingerprint& theirs) const;
  // Canonical bytes: each field in the order above with its length before it (u32 little-endian),
  // numbers as u32 little-endian; what the root hashes.
  std::string canonical() const;
};

// SHA-256 of the canonical bytes: what chunks are kept under where no node holds the fingerprint.
using FingerprintDigest = std::array<uint8_t, 32>;
FingerprintDigest digest(const Fingerprint& fingerprint);

// Whose chunks are whose, without the salt itself: the first 8 bytes of its SHA-256, little-endian;
// 0 for no salt.
using TenantId = uint64_t;
TenantId tenant_of(std::string_view salt);

// The key before the first chunk.
ChunkKey root_key(const Fingerprint& fingerprint, std::string_view adapter, std::string_view salt);
ChunkKey next_key(const ChunkKey& previous, std::span<const uint32_t> tokens);
// Keys of all chunks of a prompt; the last one may be a tail chunk of fewer tokens. None for no
// tokens. `chunk_tokens` is not 0.
std::vector<ChunkKey> key_chain(const ChunkKey& root, std::span<const uint32_t> tokens,
                                uint32_t chunk_tokens);

}  // namespace baton

template <>
struct std::hash<baton::ChunkKey> {
  size_t operator()(const baton::ChunkKey& key) const noexcept {
    size_t value;
    std::memcpy(&value, key.bytes.data(), sizeof value);  // already uniform
    return value;
  }
};
