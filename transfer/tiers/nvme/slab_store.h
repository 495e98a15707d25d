// One chunk on its way into a slab.
//
//   tombstone, where the slab's header may name an earlier chunk -> all of the chunk's bytes
//   [-> flush] -> header [-> flush] -> found by look-ups
//
// Each step begins when the device has ended all of the one before. So whenever the process is
// killed, what the header says is there is there. Where the call ended otherwise while the header
// was on its way, a tombstone follows it.
//
// Thread safety: confined to the progress thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "transfer/tiers/nvme/slab_core.h"
#include "transfer/tiers/tier.h"

namespace baton::nvme {

class SlabStore : public std::enable_shared_from_this<SlabStore> {
 public:
  // `slab` is taken. `done` says how the call ended; `settled` runs once the device touches the
  // chunk's slot no more and the slab holds it or is given back: before `done`, where the call has
  // not ended sooner.
  SlabStore(SlabCore& core, Chunk chunk, uint32_t slab, Tier::OnDone done,
            std::function<void()> settled);
  void start(TimePoint deadline);

  // Nobody shall find it: it ends with kCancelled, and leaves a tombstone where its header was
  // already on its way.
  void forget();
  // The call ends now, with `why`; what the device has of it ends when it ends. Whether it has any.
  bool abandon(const Status& why);

  // Whether look-ups will find it if all goes well.
  bool wanted() const { return !told_ && !forgotten_; }
  size_t slot_bytes() const { return slot_bytes_; }
  const ChunkId& id() const { return chunk_.id; }
  const ChunkOrigin& origin() const { return chunk_.origin; }
  uint64_t generation() const { return header_.generation; }
  uint64_t payload_bytes() const { return chunk_.checksums.size() * chunk_.segment_bytes; }

 private:
  enum class Step : uint8_t { kTombstone, kData, kFlushData, kHeader, kFlushHeader, kRetract };

  void tell(const Status& status);
  void enter(Step step);
  void write_data();
  void write_run(uint32_t first_layer, uint32_t layers);
  Disk::Io copy_out(BlockBuffer& bounce, uint32_t first_layer, uint32_t layers) const;
  void flush();
  void write_header(const SlabHeader& header);
  void ended(int error);
  void advance();
  // `otherwise`: what to tell where it is not ok.
  void settle(const Status& otherwise = ok_status());
  std::function<void(int)> on_end();

  SlabCore& core_;
  Chunk chunk_;
  const uint32_t slab_;
  const size_t slot_bytes_;
  ChunkHeader header_;
  Tier::OnDone done_;
  std::function<void()> settled_;
  boost::asio::steady_timer timer_;
  Step step_ = Step::kData;
  uint32_t outstanding_ = 0;  // of this step: waiting or under way
  int error_ = 0;             // the first
  bool told_ = false;
  bool forgotten_ = false;
  bool over_ = false;
};

}  // namespace baton::nvme
