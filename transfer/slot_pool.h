// Slots of an arena: who holds each, and when it may be used again.
//
// A slot is free, or held by readers (SlotRef) and writers (SlotWriter). It is given out again
// only when both counts are zero. A slot whose last reader is gone while a writer is outstanding
// is quarantined: it belongs to nobody, counts in quarantined_bytes(), and becomes free when the
// writer's completion takes that writer off. Time never does. Each time a slot is given out its
// generation grows, so that a SlotId that was kept never names a later use.
//
// Thread safety: SlotPool, SlotRef and SlotWriter are thread-safe (a leaf mutex).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "transfer/arena.h"
#include "transfer/base/mutex.h"
#include "transfer/base/status.h"

namespace baton {

struct SlotId {
  uint32_t index = 0;
  uint32_t generation = 0;
  bool operator==(const SlotId&) const = default;
};

class SlotPool;

// One reader's hold on a slot. Copies are readers of their own. Keeps the pool alive.
class SlotRef {
 public:
  SlotRef() = default;
  SlotRef(const SlotRef& other);
  SlotRef(SlotRef&& other) noexcept;
  SlotRef& operator=(SlotRef other) noexcept;
  ~SlotRef();

  explicit operator bool() const { return pool_ != nullptr; }
  SlotId id() const { return id_; }
  // The whole slot. Writing through it needs a SlotWriter.
  std::span<std::byte> bytes() const;
  // Offset of the slot in its arena, in bytes.
  size_t arena_offset() const;
  const std::shared_ptr<SlotPool>& pool() const { return pool_; }
  void reset();

 private:
  friend class SlotPool;
  SlotRef(std::shared_ptr<SlotPool> pool, SlotId id);  // takes over one reader already counted
  std::shared_ptr<SlotPool> pool_;
  SlotId id_;
};

// One outstanding write into a slot; destroyed when the writer's completion has come, not before.
// Move-only. Keeps the pool alive.
class SlotWriter {
 public:
  SlotWriter() = default;
  SlotWriter(SlotWriter&& other) noexcept;
  SlotWriter& operator=(SlotWriter&& other) noexcept;
  ~SlotWriter();
  explicit operator bool() const { return pool_ != nullptr; }
  SlotId id() const { return id_; }
  void reset();

 private:
  friend class SlotPool;
  SlotWriter(std::shared_ptr<SlotPool> pool, SlotId id);
  std::shared_ptr<SlotPool> pool_;
  SlotId id_;
};

struct SlotCounts {
  size_t total = 0;
  size_t free = 0;
  size_t held = 0;         // with at least one reader
  size_t quarantined = 0;  // no reader, at least one writer
};

class SlotPool : public std::enable_shared_from_this<SlotPool> {
 public:
  // As many slots of `slot_bytes` (rounded up to 64) as the arena holds. The arena is owned.
  // Errors: kInvalidArgument where not even one fits.
  static Result<std::shared_ptr<SlotPool>> create(std::unique_ptr<Arena> arena, size_t slot_bytes);

  ~SlotPool();

  // Cuts the arena into slots of another size. Errors: kInvalidArgument as create(), kUnavailable
  // while a slot is in use. Not while another thread uses the pool.
  Status recut(size_t slot_bytes);

  // A free slot with one reader; nothing when none is free. Its bytes are what the last holder
  // left there.
  std::optional<SlotRef> allocate();
  SlotWriter add_writer(const SlotRef& slot);
  // Called (outside the lock, on the thread that let go) each time a slot becomes free. Set once,
  // before the first allocate(). It may still be called while any SlotRef or SlotWriter lives.
  void on_free(std::function<void()> callback);

  SlotCounts counts() const;
  size_t quarantined_bytes() const;
  size_t slot_bytes() const { return slot_bytes_; }
  const Arena& arena() const { return *arena_; }

 private:
  friend class SlotRef;
  friend class SlotWriter;
  struct Slot {
    uint32_t generation = 0;
    uint32_t readers = 0;
    uint32_t writers = 0;
  };
  SlotPool(std::unique_ptr<Arena> arena, size_t slot_bytes, size_t slots);
  void add_reader(SlotId id);
  void drop_reader(SlotId id);
  void drop_writer(SlotId id);
  void make_free(uint32_t index) BATON_REQUIRES(mutex_);

  // Constant after construction.
  std::unique_ptr<Arena> arena_;
  size_t slot_bytes_;
  std::function<void()> on_free_;

  mutable Mutex mutex_;
  std::vector<Slot> slots_ BATON_GUARDED_BY(mutex_);
  std::vector<uint32_t> free_ BATON_GUARDED_BY(mutex_);  // taken from the back
  size_t quarantined_ BATON_GUARDED_BY(mutex_) = 0;      // slots
};

}  // namespace baton
