// Which of what a tier keeps leaves first when room is needed.
//
// What is kept are chunks of prompts, each of use only while all chunks before it are kept too. So
// whoever uses several chunks of a prompt says so from the last to the first: the end of a prompt
// is then older than its beginning, and leaves before it. The last chunk of a prompt, where it is
// a partial one (a tail), serves that very prompt alone; of 100 such hardly one is used again.
//
// - lru: the one leaves that was not used for longest.
// - s3fifo: three first-in-first-out queues (Yang et al., "FIFO queues are all you need for cache
//   eviction", SOSP 2023): s3_fifo.h.
// - age-per-use: lru, but the time since the last use counts divided by the number of uses:
//   age_per_use.h. The default: in the published workload traces it finds more than lru at every
//   capacity (perf/results/), where s3fifo finds less at most.
//
// Bookkeeping alone: no clock (time is counted in uses), nothing that waits. Every operation is
// O(1) on the average; memory is bounded by the number of items.
//
// Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "scheduler/item_lists.h"
#include "transfer/base/status.h"

namespace baton::scheduler {

enum class EvictionKind : uint8_t { kLru, kS3Fifo, kAgePerUse };

inline constexpr EvictionKind kDefaultEviction = EvictionKind::kAgePerUse;

const char* eviction_name(EvictionKind kind);  // "lru", "s3fifo", "age-per-use"
// kInvalidArgument naming the text and what there is.
Result<EvictionKind> parse_eviction(std::string_view text);

class EvictionPolicy {
 public:
  struct Arrival {
    uint64_t key = 0;   // the same for the same chunk, when it comes back; uniform
    bool tail = false;  // useful to an equal prompt alone
  };

  static std::unique_ptr<EvictionPolicy> create(EvictionKind kind);
  virtual ~EvictionPolicy() = default;

  // `item` begins to be kept, which is its first use. It is none of those that are kept.
  void insert(Item item, Arrival arrival);
  // It was looked for and found.
  void use(Item item);
  // It must stay until release().
  void hold(Item item);
  // It may leave again, and is as recent as if it was used now; that is no further use, though.
  void release(Item item);
  // It is kept no more, for another reason than want of room.
  void remove(Item item);
  // The one to leave now, which is kept no more; nothing where all are held or none is kept.
  std::optional<Item> evict();

  size_t size() const { return size_; }
  virtual size_t remembered() const { return 0; }  // keys of what has left

 protected:
  struct State {
    uint64_t key = 0;
    uint64_t used_at = 0;  // count of uses until then
    uint8_t uses = 0;      // as the policy counts them
    uint8_t list = 0;      // its own, also while it is passed over
    bool tail = false;
    bool held = false;
  };
  explicit EvictionPolicy(size_t lists) : lists_(lists) {}

  State& state(Item item) { return states_[item]; }
  ItemLists& lists() { return lists_; }
  const ItemLists& lists() const { return lists_; }

 private:
  // `item` is in no list; puts it into one, or takes it from one into another.
  virtual void inserted(Item item) = 0;
  virtual void used(Item item) = 0;
  // It may be in no list, because it was passed over.
  virtual void released(Item item) = 0;
  // The next to leave, held or not; kNoItem where no list has one. It is taken out of its list: for
  // good where it is not held, else until released().
  virtual Item candidate() = 0;
  // It leaves for want of room.
  virtual void leaves(Item) {}

  ItemLists lists_;
  std::vector<State> states_;  // by item
  size_t size_ = 0;
};

}  // namespace baton::scheduler
