#include "transfer/tier_load.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "transfer/base/log.h"

namespace baton {
namespace {

// Chunks read at a time: a device is kept busy by the layers of a few, and whoever reads needs a
// slot for each.
constexpr size_t kChunksAtOnce = 4;

}  // namespace

std::shared_ptr<TierLoad> TierLoad::start(NodeCore& core, ChunkOrigin origin,
                                          std::vector<Wanted> wanted, TimePoint deadline,
                                          OnLayer on_layer, OnDone done) {
  std::shared_ptr<TierLoad> load(new TierLoad(core, origin, std::move(wanted), deadline,
                                              std::move(on_layer), std::move(done)));
  load->self_ = load;
  boost::asio::post(core.io, [load] { load->pump(); });
  return load;
}

TierLoad::TierLoad(NodeCore& core, ChunkOrigin origin, std::vector<Wanted> wanted,
                   TimePoint deadline, OnLayer on_layer, OnDone done)
    : core_(core),
      origin_(origin),
      wanted_(std::make_move_iterator(wanted.begin()), std::make_move_iterator(wanted.end())),
      deadline_(deadline),
      begun_(core.tiers->forgotten()),
      on_layer_(std::move(on_layer)),
      done_(std::move(done)) {}

TierLoad::~TierLoad() = default;

void TierLoad::cancel() { finish(Status(Code::kCancelled, "the load was cancelled")); }

void TierLoad::pump() {
  while (done_ && !wanted_.empty() && readings_.size() < kChunksAtOnce) {
    std::optional<NodeCore::RetainedSlot> slot = core_.retained_slot(origin_.tenant);
    if (!slot) {
      // What is being read or copied gives one back.
      if (!readings_.empty() || lent_ != 0) return;
      return finish(Status(Code::kResourceExhausted,
                           "no slot of the retained arena is free for a chunk of a lower tier"));
    }
    Wanted wanted = std::move(wanted_.front());
    wanted_.pop_front();
    read(std::move(wanted), std::move(*slot));
  }
  if (done_ && wanted_.empty() && readings_.empty()) finish({});
}

void TierLoad::read(Wanted wanted, NodeCore::RetainedSlot slot) {
  auto reading = std::make_unique<Reading>();
  reading->wanted = std::move(wanted);
  reading->slot = std::move(slot.slot);
  reading->reservation = std::move(slot.reservation);
  Tier* const tier = reading->wanted.holders.front();
  TierReadRequest request{.id = reading->wanted.id,
                          .into = reading->slot,
                          .tokens = reading->wanted.tokens,
                          .layers = reading->wanted.layers,
                          .segment_bytes = reading->wanted.segment_bytes,
                          .origin = origin_,
                          .deadline = deadline_};
  Reading* const raw = reading.get();
  readings_.push_back(std::move(reading));
  raw->read = tier->read(
      std::move(request),
      [this, chunk = raw->wanted.chunk](const Chunk& what, uint32_t layer) {
        layer_came(chunk, what, layer);
      },
      [this, raw](Result<Chunk> chunk) { ended(raw, std::move(chunk)); });
}

void TierLoad::layer_came(uint32_t chunk, const Chunk& what, uint32_t layer) {
  if (!on_layer_) return;
  const auto self = shared_from_this();
  ++lent_;
  const std::span<const std::byte> bytes =
      what.slot.bytes().subspan(layer * what.segment_bytes, what.segment_bytes);
  on_layer_(chunk, what, layer, ReceivedBytes(bytes, [self, slot = what.slot] {
              --self->lent_;
              boost::asio::post(self->core_.io, [self] { self->pump(); });
            }));
}

void TierLoad::ended(Reading* reading, Result<Chunk> chunk) {
  const auto self = shared_from_this();
  const auto it = std::find_if(readings_.begin(), readings_.end(),
                               [&](const auto& each) { return each.get() == reading; });
  const std::unique_ptr<Reading> over = std::move(*it);
  readings_.erase(it);
  if (chunk.ok()) {
    over->reservation.reset();
    admit(*chunk);
    return pump();
  }
  std::vector<Tier*>& holders = over->wanted.holders;
  log::debug("a chunk was not read tier={} chunk={} why=\"{}\"", holders.front()->name(),
             over->wanted.id.key.to_hex(), chunk.status().message());
  holders.erase(holders.begin());
  if (holders.empty() || now() >= deadline_) return finish(chunk.status());
  // Not into the same slot: what was read may still be written to it.
  over->read.reset();
  over->slot.reset();
  over->reservation.reset();
  wanted_.push_front(std::move(over->wanted));
  pump();
}

// Into the host tier, and from there into the tiers that have it not.
void TierLoad::admit(const Chunk& chunk) {
  core_.keep(chunk, begun_);
  if (on_layer_) return;
  if (std::optional<HostTier::Pin> pin = core_.tier->pin(chunk.id))
    pins_.push_back(std::move(*pin));
}

void TierLoad::finish(const Status& status) {
  const std::shared_ptr<TierLoad> self = std::move(self_);
  const OnDone done = std::exchange(done_, nullptr);
  wanted_.clear();
  readings_.clear();  // cancels
  if (done && status.code() != Code::kCancelled) done(status);
}

}  // namespace baton
