// What lies on a device: a superblock, a region of headers, a region of slabs. README.md draws it.
//
// A slab is a place for one chunk; its header, in a region of its own so that all of them are read
// with large reads at start, says which chunk lies there. Layer l of a chunk begins at the next
// whole block after layer l-1, so that each is read by itself. Numbers are little-endian.
//
// Pure encoding and decoding; thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "transfer/base/status.h"
#include "transfer/chunk.h"

namespace baton::nvme {

inline constexpr uint32_t kFormatVersion = 1;
// The unit of everything on the device. What direct I/O asks for is this or less, and a write of
// one block is not torn where the device's own sectors are that large.
inline constexpr size_t kBlockBytes = 4096;

constexpr uint64_t whole_blocks(uint64_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

using Uuid = std::array<uint8_t, 16>;

// Where things lie.
struct SlabLayout {
  // One chunk's: its layers, each rounded up to whole blocks. A multiple of kBlockBytes.
  uint64_t slab_bytes = 0;
  uint32_t slabs = 0;

  // As many slabs as `device_bytes` hold. kInvalidArgument naming the sizes where that is none.
  static Result<SlabLayout> fit(uint64_t device_bytes, uint64_t slab_bytes);

  uint64_t header_offset(uint32_t slab) const { return kBlockBytes * (uint64_t{slab} + 1); }
  uint64_t data_offset(uint32_t slab) const {
    // On a boundary of its own, for devices whose inner unit is larger than a block.
    constexpr uint64_t kAlignment = 64u << 10;
    return (header_offset(slabs) + kAlignment - 1) / kAlignment * kAlignment + slab * slab_bytes;
  }
  uint64_t bytes() const { return data_offset(slabs); }
  bool operator==(const SlabLayout&) const = default;
};

struct Superblock {
  SlabLayout layout;
  Uuid uuid{};  // of this formatting: headers of an earlier one do not verify
};

using Block = std::array<std::byte, kBlockBytes>;

void encode(const Superblock& superblock, std::span<std::byte, kBlockBytes> out);
// kRefused naming both values: what it is not, which version it has, or that it is damaged.
Result<Superblock> decode_superblock(std::span<const std::byte, kBlockBytes> block);

// The header of a slab that holds a chunk.
struct ChunkHeader {
  // Grows with each write of a header on this device: of two chunks with one id the later counts.
  uint64_t generation = 0;
  ChunkId id;
  ChunkOrigin origin;
  uint32_t tokens = 0;
  PayloadOrder order = PayloadOrder::kTokenHead;
  uint32_t segment_bytes = 0;
  std::vector<Checksum> checksums;  // one a layer

  // From one layer to the next, on the device.
  uint64_t stride() const { return whole_blocks(segment_bytes); }
};
// As many layers as a header has room for.
inline constexpr uint32_t kMaxLayers = 480;

struct Tombstone {
  uint64_t generation = 0;
};
// Never written, written for another formatting or another slab, torn, or damaged: nothing is
// there.
struct NoHeader {};
using SlabHeader = std::variant<NoHeader, Tombstone, ChunkHeader>;

void encode(const ChunkHeader& header, const Uuid& uuid, uint32_t slab,
            std::span<std::byte, kBlockBytes> out);
void encode(const Tombstone& tombstone, const Uuid& uuid, uint32_t slab,
            std::span<std::byte, kBlockBytes> out);
// A chunk is said to be there only where all of it fits into a slab.
SlabHeader decode_header(std::span<const std::byte, kBlockBytes> block, const Uuid& uuid,
                         uint32_t slab, uint64_t slab_bytes);

}  // namespace baton::nvme
