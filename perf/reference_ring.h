// What two processes of a host do at best through shared memory: one gathers shuffled blocks into
// a ring of payloads, the other scatters them into shuffled blocks, both as bare loops, at the same
// time. The floor of a handoff over the local channel.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "perf/kv_pool.h"
#include "transfer/base/unique_fd.h"

namespace baton::bench {

// Shared memory of both processes. The first makes it and tells the other its path.
class Ring {
 public:
  static constexpr uint32_t kSlots = 8;  // stay in the last cache

  static Result<std::unique_ptr<Ring>> create(size_t slot_bytes);
  // `path` as path() says it in the process that made it.
  static Result<std::unique_ptr<Ring>> open(const std::string& path, size_t slot_bytes);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  std::string path() const;
  // Begins anew; nobody may be in gather_all or scatter_all.
  void reset();

  // `blocks` in all layers of the pool, `slot_blocks` at a time.
  Status gather_all(const KvPool& pool, std::span<const uint32_t> blocks, uint32_t slot_blocks);
  Status scatter_all(KvPool& pool, std::span<const uint32_t> blocks, uint32_t slot_blocks);

 private:
  struct Counters {
    alignas(64) std::atomic<uint64_t> filled;
    alignas(64) std::atomic<uint64_t> drained;
  };
  static constexpr size_t kHeaderBytes = 4096;

  Ring(UniqueFd fd, std::byte* data, size_t slot_bytes);
  static Result<std::unique_ptr<Ring>> map(UniqueFd fd, size_t slot_bytes);
  Counters& counters() const { return *reinterpret_cast<Counters*>(data_); }
  std::byte* slot(uint64_t turn) const {
    return data_ + kHeaderBytes + turn % kSlots * slot_bytes_;
  }

  const UniqueFd fd_;
  std::byte* const data_;
  const size_t slot_bytes_;
};

}  // namespace baton::bench
