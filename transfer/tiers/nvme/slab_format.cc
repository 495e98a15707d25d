#include "transfer/tiers/nvme/slab_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/checksum.h"
#include "transfer/base/check.h"
#include "transfer/base/ids.h"
#include "transfer/base/text.h"
#include "transfer/chunk_key.h"

namespace baton::nvme {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie");

constexpr std::array<char, 8> kMagic = {'B', 'A', 'T', 'O', 'N', 'K', 'V', 'S'};
constexpr size_t kChecksumAt = kBlockBytes - sizeof(uint64_t);
constexpr uint8_t kChunkKind = 1;
constexpr uint8_t kTombstoneKind = 2;
constexpr uint32_t kSuperblockSlab = UINT32_MAX;  // in its checksum's identity

// Writes one field after the other.
class FieldWriter {
 public:
  explicit FieldWriter(std::span<std::byte, kBlockBytes> out) : out_(out) {
    std::memset(out.data(), 0, out.size());
  }
  template <typename T>
  FieldWriter& put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    BATON_CHECK(sizeof value <= kChecksumAt - at_, "a block's fields reach into its checksum");
    std::memcpy(out_.data() + at_, &value, sizeof value);
    at_ += sizeof value;
    return *this;
  }

 private:
  std::span<std::byte, kBlockBytes> out_;
  size_t at_ = 0;
};

class FieldReader {
 public:
  explicit FieldReader(std::span<const std::byte, kBlockBytes> in) : in_(in) {}
  template <typename T>
  T get() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    BATON_CHECK(sizeof value <= kChecksumAt - at_, "a block's fields reach into its checksum");
    std::memcpy(&value, in_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

 private:
  std::span<const std::byte, kBlockBytes> in_;
  size_t at_ = 0;
};

// Of a block's bytes before its checksum. Seeded with where the block belongs, so that one that was
// copied to, or written at, another place does not verify.
uint64_t block_checksum(std::span<const std::byte, kBlockBytes> block, const Uuid& uuid,
                        uint32_t slab) {
  SegmentIdentity identity{.layer = slab, .bytes = kChecksumAt};
  std::copy(uuid.begin(), uuid.end(), identity.key.begin());
  return checksum(make_seed(identity), block.data(), kChecksumAt).value;
}

void seal(std::span<std::byte, kBlockBytes> block, const Uuid& uuid, uint32_t slab) {
  const uint64_t value = block_checksum(block, uuid, slab);
  std::memcpy(block.data() + kChecksumAt, &value, sizeof value);
}

bool sealed(std::span<const std::byte, kBlockBytes> block, const Uuid& uuid, uint32_t slab) {
  uint64_t value;
  std::memcpy(&value, block.data() + kChecksumAt, sizeof value);
  return value == block_checksum(block, uuid, slab);
}

Status refused(const std::string& why) { return Status(Code::kRefused, why); }

bool known(uint8_t order) {
  return order >= static_cast<uint8_t>(PayloadOrder::kTokenHead) &&
         order <= static_cast<uint8_t>(PayloadOrder::kOpaque);
}

}  // namespace

Result<SlabLayout> SlabLayout::fit(uint64_t device_bytes, uint64_t slab_bytes) {
  if (slab_bytes == 0 || slab_bytes % kBlockBytes != 0) {
    return Status(
        Code::kInvalidArgument,
        "slabs of " + number(slab_bytes) + " bytes: expected a multiple of " + number(kBlockBytes));
  }
  // Numbers of slabs have 32 bits, the last few of which mean something else.
  constexpr uint64_t kMaxSlabs = UINT32_MAX - 16;
  const uint64_t most = std::min(device_bytes / (slab_bytes + kBlockBytes), kMaxSlabs);
  SlabLayout layout{slab_bytes, static_cast<uint32_t>(most)};
  while (layout.slabs > 0 && layout.bytes() > device_bytes) --layout.slabs;
  if (layout.slabs == 0) {
    return Status(Code::kInvalidArgument,
                  "a device of " + number(device_bytes) + " bytes: one chunk of " +
                      number(slab_bytes) + " needs " + number(SlabLayout{slab_bytes, 1}.bytes()));
  }
  return layout;
}

void encode(const Superblock& superblock, std::span<std::byte, kBlockBytes> out) {
  FieldWriter(out)
      .put(kMagic)
      .put(kFormatVersion)
      .put(kKeyFormatVersion)
      .put(static_cast<uint32_t>(kBlockBytes))
      .put(superblock.layout.slabs)
      .put(superblock.layout.slab_bytes)
      .put(superblock.uuid);
  seal(out, superblock.uuid, kSuperblockSlab);
}

Result<Superblock> decode_superblock(std::span<const std::byte, kBlockBytes> block) {
  FieldReader reader(block);
  const auto magic = reader.get<std::array<char, 8>>();
  if (magic != kMagic) {
    return refused("it begins with " + to_hex(magic.data(), magic.size()) +
                   ", chunks of Baton with " + to_hex(kMagic.data(), kMagic.size()));
  }
  // Before the checksum: a later version may keep that elsewhere.
  if (const auto version = reader.get<uint32_t>(); version != kFormatVersion)
    return refused(differs("the format's version", kFormatVersion, version, "on the device"));
  const auto keys = reader.get<uint32_t>();
  const auto block_bytes = reader.get<uint32_t>();
  Superblock superblock;
  superblock.layout.slabs = reader.get<uint32_t>();
  superblock.layout.slab_bytes = reader.get<uint64_t>();
  superblock.uuid = reader.get<Uuid>();
  if (!sealed(block, superblock.uuid, kSuperblockSlab))
    return refused("its superblock is damaged: the checksum does not verify");
  if (keys != kKeyFormatVersion)
    return refused(differs("the version of chunk keys", kKeyFormatVersion, keys, "on the device"));
  if (block_bytes != kBlockBytes)
    return refused(differs("the block size", kBlockBytes, block_bytes, "on the device"));
  return superblock;
}

void encode(const ChunkHeader& header, const Uuid& uuid, uint32_t slab,
            std::span<std::byte, kBlockBytes> out) {
  BATON_CHECK(!header.checksums.empty() && header.checksums.size() <= kMaxLayers,
              "a chunk with more layers than its header has room for");
  FieldWriter writer(out);
  writer.put(kChunkKind)
      .put(static_cast<uint8_t>(header.order))
      .put(static_cast<uint16_t>(header.checksums.size()))
      .put(header.segment_bytes)
      .put(header.generation)
      .put(header.id.key.bytes)
      .put(header.id.kv_group)
      .put(header.id.head_group)
      .put(header.tokens)
      .put(header.origin.tenant)
      .put(header.origin.fingerprint);
  for (const Checksum& each : header.checksums) writer.put(each.value);
  seal(out, uuid, slab);
}

void encode(const Tombstone& tombstone, const Uuid& uuid, uint32_t slab,
            std::span<std::byte, kBlockBytes> out) {
  FieldWriter(out)
      .put(kTombstoneKind)
      .put(uint8_t{0})
      .put(uint16_t{0})
      .put(uint32_t{0})
      .put(tombstone.generation);
  seal(out, uuid, slab);
}

SlabHeader decode_header(std::span<const std::byte, kBlockBytes> block, const Uuid& uuid,
                         uint32_t slab, uint64_t slab_bytes) {
  if (!sealed(block, uuid, slab)) return NoHeader{};
  FieldReader reader(block);
  const auto kind = reader.get<uint8_t>();
  const auto order = reader.get<uint8_t>();
  const auto layers = reader.get<uint16_t>();
  ChunkHeader header;
  header.segment_bytes = reader.get<uint32_t>();
  header.generation = reader.get<uint64_t>();
  if (kind == kTombstoneKind) return Tombstone{header.generation};
  if (kind != kChunkKind || !known(order) || layers == 0 || layers > kMaxLayers ||
      header.segment_bytes == 0 || layers * header.stride() > slab_bytes) {
    return NoHeader{};
  }
  header.order = static_cast<PayloadOrder>(order);
  header.id.key.bytes = reader.get<std::array<uint8_t, 32>>();
  header.id.kv_group = reader.get<uint16_t>();
  header.id.head_group = reader.get<uint16_t>();
  header.tokens = reader.get<uint32_t>();
  header.origin.tenant = reader.get<TenantId>();
  header.origin.fingerprint = reader.get<FingerprintDigest>();
  header.checksums.resize(layers);
  for (Checksum& each : header.checksums) each.value = reader.get<uint64_t>();
  return header;
}

}  // namespace baton::nvme
