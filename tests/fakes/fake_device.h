// A GPU's memory as far as a node can tell: addresses that nobody but the "GPU's" copier can read
// or write, and copies that are under way for a while, several at a time.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/gather.h"
#include "kernels/scatter.h"
#include "transfer/base/check.h"
#include "transfer/base/mutex.h"
#include "transfer/node.h"

namespace baton::fakes {

// Where copies wait before they touch a byte, while it is closed. Thread-safe.
class CopyGate {
 public:
  void close() {
    MutexLock lock(mutex_);
    closed_ = true;
  }
  // Lets go of what waits, the oldest first, and of all that comes.
  void open() {
    for (const auto& copy : take(false)) copy();
  }
  // Lets go of what waits, the newest first, and stays closed. How many there were.
  size_t let_go_backwards() {
    auto copies = take(true);
    std::reverse(copies.begin(), copies.end());
    for (const auto& copy : copies) copy();
    return copies.size();
  }
  size_t waiting() const {
    MutexLock lock(mutex_);
    return waiting_.size();
  }
  void pass(std::function<void()> copy) {
    {
      MutexLock lock(mutex_);
      if (closed_) return waiting_.push_back(std::move(copy));
    }
    copy();
  }

 private:
  std::vector<std::function<void()>> take(bool closed) {
    MutexLock lock(mutex_);
    closed_ = closed;
    return std::exchange(waiting_, {});
  }

  mutable Mutex mutex_;
  bool closed_ BATON_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> waiting_ BATON_GUARDED_BY(mutex_);
};

// Gives the node other addresses for an engine's memory: whoever follows them faults. Counts what
// the copier does, and fails what it is told to. Outlives the node, which does not end while copies
// wait at the gate.
class FakeDevice {
 public:
  // `bytes` from the first layer's base on.
  FakeDevice(const KvMemory& kv, size_t bytes)
      : real_(kv.layer_base[0]),
        bytes_(bytes),
        reserved_(static_cast<std::byte*>(
            mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    BATON_CHECK(reserved_ != MAP_FAILED, "address space for a device");
  }
  ~FakeDevice() { munmap(reserved_, bytes_); }
  FakeDevice(const FakeDevice&) = delete;
  FakeDevice& operator=(const FakeDevice&) = delete;

  void install(NodeConfig& config) {
    for (std::byte*& base : config.kv.layer_base) base = reserved_ + (base - real_);
    config.kv.cuda_device = 0;
    config.seams.device_copier = [this](boost::asio::io_context& io) {
      return std::make_unique<DeviceCopier>(io, *this);
    };
  }

  // The copy with this number (from 1) fails; 0: none does.
  std::atomic<int> failing_gather{0}, failing_scatter{0};
  std::atomic<int> gathers{0}, scatters{0};
  std::atomic<int> most_at_once{0};
  CopyGate gate;

  static constexpr uint32_t kDepth = 4;

 private:
  // Confined to the progress thread, but for the copies themselves.
  class DeviceCopier final : public Copier {
   public:
    DeviceCopier(boost::asio::io_context& io, FakeDevice& device) : io_(io), device_(device) {}
    ~DeviceCopier() override { gpu_.join(); }

    void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
                std::byte* payload, Done done) override {
      run(++device_.gathers == device_.failing_gather, std::move(done),
          [=, at = real(from)] { return baton::gather(at, order, seed, payload); });
    }
    void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
                 const std::byte* payload, uint32_t first_token, Done done) override {
      run(++device_.scatters == device_.failing_scatter, std::move(done),
          [=, at = real(to)] { return baton::scatter(at, order, seed, payload, first_token); });
    }
    uint32_t depth() const override { return kDepth; }

   private:
    KvSegment real(KvSegment segment) const {
      segment.base = device_.real_ + (segment.base - device_.reserved_);
      return segment;
    }
    template <typename Copy>
    void run(bool fails, Done done, Copy&& copy) {
      device_.most_at_once = std::max<int>(device_.most_at_once, ++under_way_);
      auto work = [this, fails, done = std::move(done), copy] {
        Result<Checksum> result = Status(Code::kInternal, "the device fell off the bus", 719);
        if (!fails) result = copy();
        boost::asio::post(io_, [this, done, result] {
          --under_way_;
          done(result);
        });
      };
      device_.gate.pass([this, work = std::move(work)] { boost::asio::post(gpu_, work); });
    }

    boost::asio::io_context& io_;
    FakeDevice& device_;
    int under_way_ = 0;
    boost::asio::thread_pool gpu_{1};
  };

  std::byte* const real_;
  const size_t bytes_;
  std::byte* const reserved_;
};

}  // namespace baton::fakes
