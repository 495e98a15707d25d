#include "perf/replay.h"

#include <cstring>

#include "transfer/arena.h"
#include "transfer/slot_pool.h"
#include "transfer/tiers/host_tier.h"

namespace baton::bench {
namespace {

constexpr size_t kSlotBytes = 64;

class Replayer {
 public:
  static Result<Replayer> create(const WorkloadTrace& trace, scheduler::EvictionKind policy,
                                 uint32_t capacity) {
    BATON_ASSIGN_OR_RETURN(auto arena,
                           Arena::create({.name = "baton-replay", .bytes = capacity * kSlotBytes}));
    BATON_ASSIGN_OR_RETURN(auto pool, SlotPool::create(std::move(arena), kSlotBytes));
    return Replayer(trace, policy, capacity, std::move(pool));
  }

  Result<Replay> run(uint64_t corrupt) {
    for (const WorkloadTrace::Request& request : trace_.requests())
      BATON_RETURN_IF_ERROR(serve(request, corrupt));
    result_.held_bytes = tier_->bytes();
    result_.evictions = result_.inserted - tier_->entries();
    return result_;
  }

 private:
  Replayer(const WorkloadTrace& trace, scheduler::EvictionKind policy, uint32_t capacity,
           std::shared_ptr<SlotPool> pool)
      : trace_(trace),
        root_(root_key({.model = "baton-bench"}, "", "")),
        pool_(std::move(pool)),
        metrics_(std::make_unique<Metrics>()),
        tier_(std::make_unique<HostTier>(HostTier::Config{.max_bytes = capacity * kSlotBytes,
                                                          .max_entries = capacity,
                                                          .policy = policy,
                                                          .chunk_tokens = trace.block_tokens()},
                                         *metrics_)) {}

  Status serve(const WorkloadTrace::Request& request, uint64_t corrupt) {
    const auto blocks = trace_.blocks_of(request);
    keys_.clear();
    for (const uint32_t block : blocks) keys_.push_back(next_key(root_, {&block, 1}));
    std::vector<HostTier::Pin> pins = tier_->find_leading(keys_, 0, 0);
    for (size_t i = 0; i < pins.size(); ++i) {
      const bool wrong = ++result_.hits == corrupt;
      if (block_in(pins[i].chunk().slot) != blocks[i] || wrong)
        return Status(Code::kChecksum,
                      "block " + std::to_string(blocks[i]) + " is not what was written");
    }
    for (size_t i = pins.size(); i < blocks.size(); ++i) {
      const ChunkId id{.key = keys_[i]};
      std::optional<HostTier::Pin> pin = tier_->contains(id) ? tier_->find(id) : insert(request, i);
      if (pin) pins.push_back(std::move(*pin));
    }
    HostTier::release(pins);
    return ok_status();
  }

  std::optional<HostTier::Pin> insert(const WorkloadTrace::Request& request, size_t i) {
    std::optional<SlotRef> slot = pool_->allocate();
    if (!slot && tier_->evict(1) != 0) slot = pool_->allocate();
    if (!slot) {
      ++result_.skipped;
      return std::nullopt;
    }
    const uint32_t block = trace_.blocks_of(request)[i];
    for (size_t at = 0; at < kSlotBytes; at += sizeof block)
      std::memcpy(slot->bytes().data() + at, &block, sizeof block);
    const uint32_t first = static_cast<uint32_t>(i) * trace_.block_tokens();
    Chunk chunk{.id = {.key = keys_[i]},
                .tokens = std::min(trace_.block_tokens(), request.tokens - first),
                .segment_bytes = kSlotBytes,
                .slot = std::move(*slot)};
    const ChunkId id = chunk.id;
    if (!tier_->insert(std::move(chunk)).ok()) {
      ++result_.skipped;
      return std::nullopt;
    }
    ++result_.inserted;
    result_.bytes += kSlotBytes;
    return tier_->pin(id);
  }

  // Which block was written there; ~0 where no single one was.
  static uint32_t block_in(const SlotRef& slot) {
    uint32_t first;
    std::memcpy(&first, slot.bytes().data(), sizeof first);
    for (size_t at = 0; at < kSlotBytes; at += sizeof first)
      if (std::memcmp(slot.bytes().data() + at, &first, sizeof first) != 0) return ~uint32_t{0};
    return first;
  }

  const WorkloadTrace& trace_;
  const ChunkKey root_;
  std::shared_ptr<SlotPool> pool_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<HostTier> tier_;
  std::vector<ChunkKey> keys_;
  Replay result_;
};

}  // namespace

Result<Replay> replay(const WorkloadTrace& trace, scheduler::EvictionKind policy,
                      std::optional<uint32_t> capacity_blocks, uint64_t corrupt) {
  // More than there are blocks is as good as that.
  const uint32_t capacity =
      std::min(capacity_blocks.value_or(trace.distinct_blocks()), trace.distinct_blocks());
  BATON_ASSIGN_OR_RETURN(Replayer replayer, Replayer::create(trace, policy, capacity));
  return replayer.run(corrupt);
}

uint64_t hits_without_bound(const WorkloadTrace& trace) {
  std::vector<bool> seen(trace.distinct_blocks());
  uint64_t hits = 0;
  for (const WorkloadTrace::Request& request : trace.requests()) {
    bool leading = true;
    for (const uint32_t block : trace.blocks_of(request)) {
      leading = leading && seen[block];
      hits += leading;
      seen[block] = true;
    }
  }
  return hits;
}

}  // namespace baton::bench
