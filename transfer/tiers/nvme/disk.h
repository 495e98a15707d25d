// One file or block device, read and written asynchronously: the seam between the tier and the
// system. The product has one implementation (ring_disk.h); tests put faults around it.
//
// Thread safety: confined to the progress thread; callbacks run there, never inside a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace baton::nvme {

class Disk {
 public:
  // kFlush: what has been written would survive a loss of power (fdatasync).
  enum class Kind : uint8_t { kRead, kWrite, kFlush };

  struct Io {
    Kind kind = Kind::kRead;
    uint64_t offset = 0;  // this and `bytes` are multiples of kBlockBytes
    std::byte* data = nullptr;
    uint32_t bytes = 0;
  };
  // How many bytes were moved, maybe fewer than asked for; or -errno. From then on the system does
  // not touch the memory any more.
  using Done = std::function<void(int32_t result)>;

  // Nothing may be under way.
  virtual ~Disk() = default;
  // How many may be under way at a time.
  virtual uint32_t depth() const = 0;
  // What memory and segments must be aligned to for the system to move them without a copy.
  virtual size_t memory_alignment() const = 0;
  // Takes it; it begins with the next start() at the latest.
  virtual void submit(const Io& io, Done done) = 0;
  virtual void start() = 0;
};

}  // namespace baton::nvme
