// S3Tier's inside. Internal to transfer/tiers/s3.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "transfer/tiers/s3/known_chunks.h"
#include "transfer/tiers/s3/lifeline.h"
#include "transfer/tiers/s3/operation.h"
#include "transfer/tiers/s3/reading.h"
#include "transfer/tiers/s3/service.h"
#include "transfer/tiers/s3/sweeping.h"
#include "transfer/tiers/tier.h"

namespace baton::s3 {

class S3TierImpl final : public Tier, public Reading::Owner {
 public:
  S3TierImpl(boost::asio::io_context& io, const S3Config& config, std::unique_ptr<HttpLoop> http,
             Metrics& metrics);
  // What is under way is cancelled; no callback runs any more.
  ~S3TierImpl() override;

  const char* name() const override { return "s3"; }
  bool shared() const override { return true; }
  Presence presence(const ChunkId& id) const override;
  void find(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline,
            OnPresent done) override;
  void store(Chunk chunk, TimePoint deadline, OnDone done) override;
  std::unique_ptr<Read> read(TierReadRequest request, OnLayer on_layer, OnRead done) override;
  void erase(ChunkOrigin origin, std::vector<ChunkId> ids, OnDone done) override;
  void clear(ChunkFilter filter, bool dry_run, OnCount done) override;
  TierReport report() const override;
  void close(TimePoint deadline, std::function<void()> closed) override;

 private:
  void on_end(Reading& reading, const Status& how) override;

  // Why nothing can be begun now; ok where it can.
  Status unavailable();
  // Why this call cannot be taken.
  Status check_store(const Chunk& chunk);
  Status check_read(const TierReadRequest& request);
  Status too_many(const char* what, uint64_t under_way);
  bool is_going(const ChunkOrigin& origin) const;
  void drop(const ChunkOrigin& origin, std::vector<ChunkId> ids, OnDone done);
  void look(const ChunkOrigin& origin, const std::vector<ChunkId>& ids, std::vector<bool> present,
            TimePoint deadline, OnPresent done);
  void count_found(const std::vector<bool>& present);
  void end(const Operation* operation);
  void maybe_closed();
  template <typename F>
  void later(F f);

  Service service_;
  KnownChunks known_;
  uint32_t stores_ = 0;
  uint32_t lookups_ = 0;  // chunks
  uint32_t erases_ = 0;   // chunks
  std::unordered_set<Reading*> readings_;
  std::list<const Sweeping*> sweeps_;
  Operations operations_;  // stores, look-ups, deletions, sweeps

  bool closing_ = false;
  std::function<void()> closed_;
  boost::asio::steady_timer close_timer_;
  Lifeline alive_;
};

}  // namespace baton::s3
