#include "perf/reference_ring.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace baton::bench {
namespace {

constexpr Duration kRingPatience = std::chrono::seconds(30);

size_t ring_bytes(size_t header, size_t slot_bytes) { return header + Ring::kSlots * slot_bytes; }

// Looks without pause for a while, then lets others run in between.
template <typename Condition>
Status spin_until(Condition&& condition) {
  const TimePoint end = now() + kRingPatience;
  for (uint64_t turn = 0; !condition(); ++turn) {
    if (turn < 1000) {
#ifdef __x86_64__
      __builtin_ia32_pause();
#endif
      continue;
    }
    ::sched_yield();
    if (now() > end)
      return Status(Code::kDeadlineExceeded, "the other process's bare loop stands still");
  }
  return ok_status();
}

}  // namespace

Ring::Ring(UniqueFd fd, std::byte* data, size_t slot_bytes)
    : fd_(std::move(fd)), data_(data), slot_bytes_(slot_bytes) {}

Ring::~Ring() { ::munmap(data_, ring_bytes(kHeaderBytes, slot_bytes_)); }

Result<std::unique_ptr<Ring>> Ring::map(UniqueFd fd, size_t slot_bytes) {
  void* data = ::mmap(nullptr, ring_bytes(kHeaderBytes, slot_bytes), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (data == MAP_FAILED) return Status::from_errno("mapping the bare loops' ring", errno);
  return std::unique_ptr<Ring>(new Ring(std::move(fd), static_cast<std::byte*>(data), slot_bytes));
}

Result<std::unique_ptr<Ring>> Ring::create(size_t slot_bytes) {
  UniqueFd fd(::memfd_create("baton-bench-ring", MFD_CLOEXEC));
  if (!fd.valid() ||
      ::ftruncate(fd.get(), static_cast<off_t>(ring_bytes(kHeaderBytes, slot_bytes))) != 0)
    return Status::from_errno("the bare loops' ring", errno);
  return map(std::move(fd), slot_bytes);
}

Result<std::unique_ptr<Ring>> Ring::open(const std::string& path, size_t slot_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return Status::from_errno(path, errno);
  return map(std::move(fd), slot_bytes);
}

std::string Ring::path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get());
}

void Ring::reset() {
  counters().filled.store(0, std::memory_order_relaxed);
  counters().drained.store(0, std::memory_order_release);
}

Status Ring::gather_all(const KvPool& pool, std::span<const uint32_t> blocks,
                        uint32_t slot_blocks) {
  uint64_t turn = 0;
  for (uint32_t layer = 0; layer < pool.layers(); ++layer)
    for (size_t b = 0; b < blocks.size(); ++turn) {
      BATON_RETURN_IF_ERROR(spin_until(
          [&] { return turn - counters().drained.load(std::memory_order_acquire) < kSlots; }));
      const size_t end = std::min<size_t>(b + slot_blocks, blocks.size());
      for (std::byte* to = slot(turn); b < end; ++b, to += pool.block_bytes())
        std::memcpy(to, pool.block(layer, blocks[b]), pool.block_bytes());
      counters().filled.store(turn + 1, std::memory_order_release);
    }
  return ok_status();
}

Status Ring::scatter_all(KvPool& pool, std::span<const uint32_t> blocks, uint32_t slot_blocks) {
  uint64_t turn = 0;
  for (uint32_t layer = 0; layer < pool.layers(); ++layer)
    for (size_t b = 0; b < blocks.size(); ++turn) {
      BATON_RETURN_IF_ERROR(
          spin_until([&] { return counters().filled.load(std::memory_order_acquire) > turn; }));
      const size_t end = std::min<size_t>(b + slot_blocks, blocks.size());
      for (const std::byte* from = slot(turn); b < end; ++b, from += pool.block_bytes())
        std::memcpy(pool.block(layer, blocks[b]), from, pool.block_bytes());
      counters().drained.store(turn + 1, std::memory_order_release);
    }
  return ok_status();
}

}  // namespace baton::bench
