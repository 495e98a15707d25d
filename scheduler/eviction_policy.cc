#include "scheduler/eviction_policy.h"

#include <string>

#include "scheduler/age_per_use.h"
#include "scheduler/s3_fifo.h"
#include "transfer/base/check.h"

namespace baton::scheduler {
namespace {

constexpr EvictionKind kKinds[] = {EvictionKind::kLru, EvictionKind::kS3Fifo,
                                   EvictionKind::kAgePerUse};

class Lru final : public EvictionPolicy {
 public:
  Lru() : EvictionPolicy(1) {}

 private:
  void inserted(Item item) override { lists().move_to_back(0, item); }
  void used(Item item) override { lists().move_to_back(0, item); }
  void released(Item item) override { lists().move_to_back(0, item); }
  Item candidate() override { return lists().front(0); }
};

}  // namespace

const char* eviction_name(EvictionKind kind) {
  switch (kind) {
    case EvictionKind::kLru:
      return "lru";
    case EvictionKind::kS3Fifo:
      return "s3fifo";
    case EvictionKind::kAgePerUse:
      return "age-per-use";
  }
  BATON_CHECK(false, "an eviction policy that is not one");
}

Result<EvictionKind> parse_eviction(std::string_view text) {
  std::string names;
  for (const EvictionKind kind : kKinds) {
    if (text == eviction_name(kind)) return kind;
    names += (names.empty() ? "" : ", ") + std::string(eviction_name(kind));
  }
  return Status(Code::kInvalidArgument,
                "'" + std::string(text) + "' is no eviction policy: there are " + names);
}

std::unique_ptr<EvictionPolicy> EvictionPolicy::create(EvictionKind kind) {
  switch (kind) {
    case EvictionKind::kLru:
      return std::make_unique<Lru>();
    case EvictionKind::kS3Fifo:
      return std::make_unique<S3Fifo>();
    case EvictionKind::kAgePerUse:
      return std::make_unique<AgePerUse>();
  }
  BATON_CHECK(false, "an eviction policy that is not one");
}

void EvictionPolicy::insert(Item item, Arrival arrival) {
  if (item >= states_.size()) states_.resize(item + 1);
  states_[item] = {.key = arrival.key, .tail = arrival.tail};
  ++size_;
  inserted(item);
}

void EvictionPolicy::use(Item item) { used(item); }

void EvictionPolicy::hold(Item item) { states_[item].held = true; }

void EvictionPolicy::release(Item item) {
  states_[item].held = false;
  released(item);
}

void EvictionPolicy::remove(Item item) {
  lists_.remove(item);
  --size_;
}

std::optional<Item> EvictionPolicy::evict() {
  // What is held is passed over once: each turn of this loop was paid for by a hold().
  for (Item item = candidate(); item != kNoItem; item = candidate()) {
    lists_.remove(item);
    if (states_[item].held) continue;
    --size_;
    leaves(item);
    return item;
  }
  return std::nullopt;
}

}  // namespace baton::scheduler
