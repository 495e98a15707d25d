// A tier below the host's that keeps its chunks in memory and does what the test says: it knows or
// must ask, answers late, fails, or gives other bytes.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "transfer/base/mutex.h"
#include "transfer/tiers/tier.h"

namespace baton::fakes {

// What the test and the tier share; outlives nodes. Thread-safe.
class MemoryTierState {
 public:
  struct Stored {
    Chunk chunk;  // without its slot
    std::vector<std::byte> bytes;
  };

  // --- the test
  void must_ask() {
    locked([&] { asks_ = true; });
  }
  // Others write to it too.
  void share() {
    locked([&] { shared_ = true; });
  }
  // It never says that it is closed.
  void hang() {
    locked([&] { hangs_ = true; });
  }
  // What is asked for from now on waits until release().
  void hold() {
    locked([&] { holding_ = true; });
  }
  void release() {
    std::vector<std::function<void()>> held;
    locked([&] {
      holding_ = false;
      told_before_hold_.reset();
      held = std::exchange(held_, {});
    });
    for (const auto& run : held) run();
  }
  // Every read fails with it once `layers` were told.
  void fail_reads(Status status, uint32_t layers = 0) {
    locked([&] {
      failure_ = std::move(status);
      layers_before_failure_ = layers;
    });
  }
  // Reads tell that many layers and then wait for release().
  void hold_reads_after(uint32_t layers) {
    locked([&] { told_before_hold_ = layers; });
  }
  void fail_stores(Status status) {
    locked([&] { store_failure_ = std::move(status); });
  }
  void work_again() {
    locked([&] { failure_ = store_failure_ = ok_status(); });
  }
  size_t chunks() {
    return locked([&] { return stored_.size(); });
  }
  size_t reads() {
    return locked([&] { return reads_; });
  }
  size_t finds() {
    return locked([&] { return finds_; });
  }
  // Stores and reads that wait for release().
  size_t held() {
    return locked([&] { return held_.size(); });
  }
  void forget_all() {
    locked([&] { stored_.clear(); });
  }

 private:
  friend class MemoryTier;
  template <typename F>
  std::invoke_result_t<F> locked(F&& f) {
    MutexLock lock(mutex_);
    return f();
  }

  Mutex mutex_;
  std::unordered_map<ChunkId, Stored> stored_;
  std::vector<std::function<void()>> held_;
  bool asks_ = false;
  bool shared_ = false;
  bool hangs_ = false;
  bool holding_ = false;
  Status failure_;
  uint32_t layers_before_failure_ = 0;
  std::optional<uint32_t> told_before_hold_;
  Status store_failure_;
  size_t reads_ = 0;
  size_t finds_ = 0;
};

class MemoryTier final : public Tier {
 public:
  MemoryTier(boost::asio::io_context& io, std::shared_ptr<MemoryTierState> state,
             const char* name = "nvme")
      : io_(io), state_(std::move(state)), name_(name) {}

  const char* name() const override { return name_; }
  bool shared() const override {
    return state_->locked([&] { return state_->shared_; });
  }

  Presence presence(const ChunkId& id) const override {
    return state_->locked([&] {
      if (state_->asks_) return Presence::kUnknown;
      return state_->stored_.contains(id) ? Presence::kHeld : Presence::kAbsent;
    });
  }

  void find(ChunkOrigin, std::vector<ChunkId> ids, TimePoint, OnPresent done) override {
    state_->locked([&] { ++state_->finds_; });
    later([this, ids = std::move(ids), done = std::move(done)] {
      std::vector<bool> present;
      state_->locked([&] {
        for (const ChunkId& id : ids) present.push_back(state_->stored_.contains(id));
      });
      done(present);
    });
  }

  void store(Chunk chunk, TimePoint, OnDone done) override {
    later([this, chunk = std::move(chunk), done = std::move(done)]() mutable {
      const Status status = state_->locked([&] {
        if (!state_->store_failure_.ok()) return state_->store_failure_;
        const std::span<const std::byte> bytes = chunk.slot.bytes();
        Chunk kept = chunk;
        kept.slot.reset();
        const bool fresh =
            state_->stored_.try_emplace(chunk.id, kept, std::vector(bytes.begin(), bytes.end()))
                .second;
        return fresh ? ok_status() : Status(Code::kExists, "stored already");
      });
      chunk.slot.reset();
      done(status);
    });
  }

  std::unique_ptr<Read> read(TierReadRequest request, OnLayer on_layer, OnRead done) override {
    struct Handle final : Read {
      ~Handle() override { *alive = false; }
      std::shared_ptr<bool> alive = std::make_shared<bool>(true);
    };
    auto handle = std::make_unique<Handle>();
    state_->locked([&] { ++state_->reads_; });
    auto writer = std::make_shared<SlotWriter>(request.into.pool()->add_writer(request.into));
    later([this, request = std::move(request), on_layer = std::move(on_layer),
           done = std::move(done), writer, alive = handle->alive] {
      Chunk chunk;
      Status failure = state_->locked([&] {
        const auto found = state_->stored_.find(request.id);
        if (found == state_->stored_.end()) return Status(Code::kNotFound, "no such chunk");
        chunk = found->second.chunk;
        std::memcpy(request.into.bytes().data(), found->second.bytes.data(),
                    found->second.bytes.size());
        return state_->failure_;
      });
      chunk.slot = request.into;
      const uint32_t told = failure.ok()
                                ? request.layers
                                : state_->locked([&] { return state_->layers_before_failure_; });
      if (failure.code() == Code::kNotFound) chunk.checksums.clear();
      const auto tell = [=](uint32_t first, uint32_t last) {
        for (uint32_t l = first; l < last && l < chunk.checksums.size() && *alive; ++l)
          on_layer(chunk, l);
      };
      const auto rest = [=](uint32_t first) {
        tell(first, told);
        writer->reset();
        if (*alive) done(failure.ok() ? Result<Chunk>(chunk) : Result<Chunk>(failure));
      };
      const std::optional<uint32_t> before =
          state_->locked([&] { return state_->told_before_hold_; });
      if (!before) return rest(0);
      tell(0, *before);
      state_->locked([&] { state_->held_.push_back(posted([=] { rest(*before); })); });
    });
    return handle;
  }

  void erase(ChunkOrigin, std::vector<ChunkId> ids, OnDone done) override {
    state_->locked([&] {
      for (const ChunkId& id : ids) state_->stored_.erase(id);
    });
    boost::asio::post(io_, [done = std::move(done)] { done(ok_status()); });
  }

  void clear(ChunkFilter filter, bool dry_run, OnCount done) override {
    ChunkCount count;
    state_->locked([&] {
      for (auto it = state_->stored_.begin(); it != state_->stored_.end();) {
        const ChunkOrigin& origin = it->second.chunk.origin;
        const bool fits = (!filter.fingerprint || *filter.fingerprint == origin.fingerprint) &&
                          (!filter.tenant || *filter.tenant == origin.tenant);
        count.chunks += fits;
        count.bytes +=
            fits ? it->second.chunk.checksums.size() * it->second.chunk.segment_bytes : 0;
        it = fits && !dry_run ? state_->stored_.erase(it) : std::next(it);
      }
    });
    boost::asio::post(io_, [done = std::move(done), count] { done(count); });
  }

  TierReport report() const override {
    return {.held = {.chunks = state_->locked([&] { return state_->stored_.size(); })}};
  }

  void close(TimePoint, std::function<void()> closed) override {
    if (state_->locked([&] { return state_->hangs_; })) return;
    state_->release();
    boost::asio::post(io_, std::move(closed));
  }

 private:
  void later(std::function<void()> run) {
    const std::function<void()> post = posted(std::move(run));
    const bool now = state_->locked([&] {
      if (state_->holding_) state_->held_.push_back(post);
      return !state_->holding_;
    });
    if (now) post();
  }
  std::function<void()> posted(std::function<void()> run) {
    return [&io = io_, run = std::move(run)] { boost::asio::post(io, run); };
  }

  boost::asio::io_context& io_;
  const std::shared_ptr<MemoryTierState> state_;
  const char* const name_;
};

}  // namespace baton::fakes
