// A tier by itself, without a node: chunks that are stored in it and read back, so many at a time.
//
// Externally synchronised; runs the tier's io_context inside its calls.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "perf/bench.h"
#include "transfer/base/metrics.h"
#include "transfer/slot_pool.h"
#include "transfer/tiers/tier.h"

namespace baton::bench {

struct TierCase {
  uint32_t layers;
  uint64_t segment_bytes;
  uint32_t chunks;
  uint32_t window;      // chunks under way at a time
  uint64_t slot_bytes;  // at least a chunk's

  uint64_t chunk_bytes() const { return layers * segment_bytes; }
  uint64_t bytes() const { return chunks * chunk_bytes(); }
};

class TierDriver {
 public:
  using Open = std::function<Result<std::unique_ptr<Tier>>(
      boost::asio::io_context&, const std::shared_ptr<SlotPool>&, Metrics&)>;
  // Makes the chunks, of random bytes; `common` outlives it.
  static Result<std::unique_ptr<TierDriver>> create(const TierCase& c, const Common& common,
                                                    const Open& open);
  // Closes the tier.
  ~TierDriver();

  // Each returns the seconds that it took. kChecksum where other bytes come back than were stored.
  Result<double> store_all();  // of a tier that was emptied before
  Result<double> read_all();   // what store_all() has stored
  // The second half of the chunks, erased before, is stored while the first is read.
  Result<double> both();
  // Of one chunk, read by itself: until its layer 0 is there.
  Result<double> first_layer(uint32_t chunk);

 private:
  using OnEnded = std::function<void(const Status&)>;
  using Begin = std::function<void(uint32_t turn, const OnEnded& ended)>;

  TierDriver(const TierCase& c, const Common& common) : case_(c), common_(common) {}
  void make_chunks();
  Status run_until(const std::function<bool()>& condition);
  Result<double> timed(uint32_t turns, const Begin& begin);
  void store(uint32_t chunk, const OnEnded& ended);
  void begin_reads();
  void read(uint32_t chunk, const OnEnded& ended);
  Status compare();

  const TierCase case_;
  const Common& common_;
  uint32_t checks_ = 0;
  boost::asio::io_context io_{1};
  Metrics metrics_;
  std::shared_ptr<SlotPool> pool_;
  std::unique_ptr<Tier> tier_;
  std::vector<Chunk> chunks_;
  // Of the reads that are timed.
  std::vector<std::unique_ptr<Tier::Read>> reads_;
  std::vector<SlotRef> free_;
  std::vector<std::pair<uint32_t, Chunk>> last_;  // those read last, with their slots
};

}  // namespace baton::bench
