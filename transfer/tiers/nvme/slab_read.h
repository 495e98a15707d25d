// One chunk on its way out of a slab into a slot: its header and all of its layers at once; each
// layer is verified, against the checksum in the header, before anybody is told of it.
//
// Thread safety: confined to the progress thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "transfer/tiers/nvme/slab_core.h"
#include "transfer/tiers/tier.h"

namespace baton::nvme {

class SlabRead : public std::enable_shared_from_this<SlabRead> {
 public:
  // `slab` holds what is asked for, of the layers and size that the request has. `settled` runs
  // once the device touches the slot no more: before `done`, where the call has not ended sooner.
  SlabRead(SlabCore& core, uint32_t slab, TierReadRequest request, Tier::OnLayer on_layer,
           Tier::OnRead done, std::function<void()> settled);
  void start();

  // Neither callback runs any more; what the device has of it ends when it ends.
  void cancel();
  // The call ends now, with `why`; as above. Whether the device has any of it.
  bool abandon(const Status& why);

 private:
  // Layers that are read together.
  struct Run {
    uint32_t first = 0;
    uint32_t layers = 0;
    std::shared_ptr<BlockBuffer> bounce;  // null: straight into the slot
  };

  void read_header();
  void read_run(uint32_t first, uint32_t layers);
  void header_came(const BlockBuffer& block);
  void run_came(const Run& run);
  void verify(const Run& run);
  void end_run(const Run& run);
  void fail(int error);
  void spoilt(const std::string& what);
  void tell(Result<Chunk> result);
  void stop();
  void ended();
  void settle();
  std::byte* layer_in_slot(uint32_t layer) const { return slot_bytes_ + layer * bytes_; }

  SlabCore& core_;
  const uint32_t slab_;
  const HeldChunk held_;
  const uint64_t bytes_;  // of a segment
  const uint64_t stride_;
  TierReadRequest request_;
  Tier::OnLayer on_layer_;
  Tier::OnRead done_;
  std::function<void()> settled_;
  boost::asio::steady_timer timer_;
  std::byte* const slot_bytes_;
  SlotWriter writer_;  // until the device and we write there no more
  std::optional<ChunkHeader> header_;
  Chunk chunk_;               // as the header says
  std::vector<Run> early_;    // read before the header was
  uint32_t verified_ = 0;     // layers
  uint32_t outstanding_ = 0;  // waiting, under way, or to be verified
  bool told_ = false;         // or about to be
  std::optional<Result<Chunk>> result_;
};

}  // namespace baton::nvme
