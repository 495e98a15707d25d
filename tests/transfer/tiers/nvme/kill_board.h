// What a process that stores and erases chunks had been told when it was killed: memory that it
// shares with the test.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <new>
#include <string>

namespace baton::testing {

// Of one chunk. Versions grow; 0 is none. What is on the device is `known`, or, where `begun` is
// another, either of the two; and nothing, where it may have been evicted.
struct KillRecord {
  std::atomic<uint32_t> known{0};
  std::atomic<uint32_t> begun{0};
};

struct KillBoard {
  static constexpr uint32_t kMaxChunks = 512;

  std::atomic<uint32_t> ready{0};   // the child works
  std::atomic<uint64_t> stores{0};  // that were told to be done
  std::atomic<uint64_t> erases{0};
  std::atomic<uint64_t> reads{0};
  std::atomic<uint32_t> wrong{0};  // bytes that the child itself read, and that differed
  KillRecord chunks[kMaxChunks];

  // The file is made, zeroed, where `create`.
  static KillBoard* map(const std::string& path, bool create) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (fd < 0 || (create && ftruncate(fd, sizeof(KillBoard)) != 0)) return nullptr;
    void* const memory =
        mmap(nullptr, sizeof(KillBoard), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (memory == MAP_FAILED) return nullptr;
    return create ? new (memory) KillBoard : static_cast<KillBoard*>(memory);
  }
};

// What both processes open.
struct KillSetup {
  static constexpr uint32_t kSlabs = 48;
  static constexpr uint32_t kLayers = 3;
  static constexpr uint32_t kSegmentBytes = 12288;
  static constexpr uint64_t kSlabBytes = uint64_t{kLayers} * kSegmentBytes;
};

}  // namespace baton::testing
