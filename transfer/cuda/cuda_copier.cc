#include "transfer/cuda/cuda_copier.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "kernels/cuda.h"
#include "transfer/base/log.h"
#include "transfer/base/mutex.h"
#include "transfer/base/nvtx.h"
#include "transfer/cuda/copy_stream.h"
#include "transfer/cuda/cuda_memory.h"
#include "transfer/cuda/observed_time.h"
#include "transfer/node.h"

namespace baton::cuda {
namespace {

struct Job {
  SegmentCopy copy;
  Copier::Done done;
};

// What one copy at a time has to itself.
struct Bay {
  CopyStream stream;
  Job job;
  std::optional<Duration> began = {};  // in observed time; while a copy is under way
  bool late = false;                   // it was said of this copy
  Status status = {};                  // of enqueuing it
  bool lost = false;                   // the GPU runs nothing any more
};

const char* kind_of(const Job& job) { return job.copy.gathers ? "gather" : "scatter"; }

// Why, and why like this: cuda_copier.h.
[[noreturn]] void end_process(uint32_t device) {
  log::critical(
      "the GPU hangs, and this process is to end: a copy that may still write to memory keeps its "
      "owners from freeing it, so the process ends here device={} exit_code={}",
      device, kHungDeviceExit);
  log::flush();
  ::_exit(kHungDeviceExit);
}

class CudaCopier final : public Copier {
 public:
  CudaCopier(boost::asio::io_context& io, CudaCopierConfig config)
      : io_(io),
        config_(std::move(config)),
        observed_(now(), config_.late_after / kLooks),
        watch_(io) {}
  // The waiter first: it waits for what is under way, or the process ends. Then streams, memory,
  // pinned ranges, pools.
  ~CudaCopier() override;
  Status open();

  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    add({{true, from, order, seed, payload, 0}, std::move(done)});
  }
  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t first_token, Done done) override {
    add({{false, to, order, seed, const_cast<std::byte*>(payload), first_token}, std::move(done)});
  }
  uint32_t depth() const override { return config_.bays; }
  void finish() override { finishing_ = observed_.look(now()); }

 private:
  void pin();
  bool pinned(const std::byte* payload, size_t bytes) const;
  Status check(const SegmentCopy& copy) const;
  void add(Job job);
  void start(Bay& bay, Job job);
  Status enqueue(Bay& bay);
  void passed(Bay& bay, Status status);
  void lose(const Status& why);
  void fail(Job job, const Status& why);
  void watch();
  void look();
  void wait_for_bays();

  static constexpr int kLooks = 10;  // at a copy, until it is late

  // Constant after open().
  boost::asio::io_context& io_;
  const CudaCopierConfig config_;
  std::vector<PinnedRange> pinned_;
  std::vector<std::unique_ptr<Bay>> bays_;

  // Confined to the progress thread.
  std::vector<Bay*> free_;
  std::deque<Job> waiting_;
  ObservedTime observed_;
  std::optional<Duration> finishing_;  // in observed time: since finish()
  boost::asio::steady_timer watch_;
  bool watching_ = false;
  // What the timer's callback asks first: it may be queued when the copier goes.
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
  Status lost_;  // not ok: why the GPU runs nothing any more, which only a new process changes

  Mutex mutex_;
  CondVar changed_;
  std::deque<Bay*> under_way_ BATON_GUARDED_BY(mutex_);  // in the order of their start
  bool stopping_ BATON_GUARDED_BY(mutex_) = false;
  bool waited_ BATON_GUARDED_BY(mutex_) = false;  // the waiter is through
  std::thread waiter_;
};

Status CudaCopier::open() {
  BATON_RETURN_IF_ERROR(cuda_usable());
  BATON_RETURN_IF_ERROR(use_device(config_.device));
  pin();
  for (uint32_t i = 0; i < config_.bays; ++i) {
    BATON_ASSIGN_OR_RETURN(CopyStream stream,
                           CopyStream::create(config_.segment_bytes, config_.segment_blocks));
    bays_.push_back(std::make_unique<Bay>(Bay{.stream = std::move(stream), .job = {}}));
    free_.push_back(bays_.back().get());
  }
  BATON_RETURN_IF_ERROR(bays_[0]->stream.try_kernels(config_.segment_bytes));
  waiter_ = std::thread([this] { wait_for_bays(); });
  log::info("GPU copies device={} at_once={} segment_bytes={} pinned_arenas={}", config_.device,
            config_.bays, config_.segment_bytes, pinned_.size());
  return ok_status();
}

CudaCopier::~CudaCopier() {
  if (!waiter_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    ObservedTime observed(now(), config_.hung_after / kLooks);
    while (!waited_) {
      changed_.wait_until(mutex_, now() + observed.tick());
      if (!waited_ && observed.look(now()) >= config_.hung_after) end_process(config_.device);
    }
  }
  waiter_.join();
}

void CudaCopier::pin() {
  for (const auto& pool : config_.pools) {
    const Arena& arena = pool->arena();
    auto range = PinnedRange::create({arena.data(), arena.bytes()});
    if (range.ok()) {
      pinned_.push_back(std::move(range).value());
      continue;
    }
    log::warn(
        "an arena is not pinned: each copy between it and the GPU costs one more on the host "
        "bytes={} why=\"{}\"",
        arena.bytes(), range.status().message());
  }
}

bool CudaCopier::pinned(const std::byte* payload, size_t bytes) const {
  for (const PinnedRange& range : pinned_)
    if (range.holds(payload, bytes)) return true;
  return false;
}

Status CudaCopier::check(const SegmentCopy& copy) const {
  if (copy.bytes() <= config_.segment_bytes && copy.blocks() <= config_.segment_blocks)
    return ok_status();
  return Status(Code::kInvalidArgument, "a segment of " + std::to_string(copy.bytes()) +
                                            " bytes in " + std::to_string(copy.blocks()) +
                                            " blocks: expected at most " +
                                            std::to_string(config_.segment_bytes) + " in " +
                                            std::to_string(config_.segment_blocks));
}

void CudaCopier::add(Job job) {
  if (!lost_.ok()) return fail(std::move(job), lost_);
  if (const Status status = check(job.copy); !status.ok()) return fail(std::move(job), status);
  if (free_.empty()) return waiting_.push_back(std::move(job));
  Bay& bay = *free_.back();
  free_.pop_back();
  start(bay, std::move(job));
}

// Without the GPU; as ever not inside the call.
void CudaCopier::fail(Job job, const Status& why) {
  boost::asio::post(io_, [done = std::move(job.done), why] { done(why); });
}

// Also what could not be enqueued goes to the waiter: a part of it may be under way.
void CudaCopier::start(Bay& bay, Job job) {
  bay.job = std::move(job);
  bay.began = observed_.look(now());
  bay.status = enqueue(bay);
  watch();
  MutexLock lock(mutex_);
  under_way_.push_back(&bay);
  changed_.notify_all();
}

Status CudaCopier::enqueue(Bay& bay) {
  const SegmentCopy& copy = bay.job.copy;
  const NvtxRange range(copy.gathers ? "enqueue gather" : "enqueue verify_scatter");
  BATON_RETURN_IF_ERROR(use_device(config_.device));
  return bay.stream.enqueue(copy, pinned(copy.payload, copy.bytes()));
}

// Looks once a tick while copies are under way; not at each copy's end, so that one that is in time
// mostly costs no timer.
void CudaCopier::watch() {
  if (watching_ || free_.size() == bays_.size()) return;
  watching_ = true;
  watch_.expires_after(observed_.tick());
  watch_.async_wait([this, alive = std::weak_ptr(alive_)](const boost::system::error_code& error) {
    if (error || alive.expired()) return;
    watching_ = false;
    look();
    watch();
  });
}

void CudaCopier::look() {
  const Duration at = observed_.look(now());
  for (const auto& bay : bays_) {
    if (bay->began && finishing_ && at >= std::max(*bay->began, *finishing_) + config_.hung_after)
      end_process(config_.device);
    if (!bay->began || bay->late || at < *bay->began + config_.late_after) continue;
    bay->late = true;
    log::warn(
        "a copy on the GPU has not ended device={} copy={} bytes={} tokens={} s={:.1f} waiting={}",
        config_.device, kind_of(bay->job), bay->job.copy.bytes(), bay->job.copy.segment.tokens,
        to_seconds(at - *bay->began), waiting_.size());
    if (config_.on_late) config_.on_late();
  }
}

// On a thread of its own. An error that comes out of waiting is one of the whole context: it runs
// nothing any more, so nothing of the copy does either. What merely could not be enqueued is waited
// for as well: if that works the GPU lives.
void CudaCopier::wait_for_bays() {
  const Status device = use_device(config_.device);
  for (;;) {
    Bay* bay = nullptr;
    {
      MutexLock lock(mutex_);
      while (under_way_.empty() && !stopping_) changed_.wait(mutex_);
      if (under_way_.empty()) {
        waited_ = true;
        changed_.notify_all();
        return;
      }
      bay = under_way_.front();
      under_way_.pop_front();
    }
    Status status = device.ok() ? bay->status : device;
    const Status waited = status.ok() ? bay->stream.wait_for_copy() : bay->stream.wait_for_all();
    bay->lost = !device.ok() || !waited.ok();
    if (status.ok()) status = waited;
    boost::asio::post(io_, [this, bay, status] { passed(*bay, status); });
  }
}

// The bay's turn is over: on the progress thread again.
void CudaCopier::passed(Bay& bay, Status status) {
  Job job = std::move(bay.job);
  if (std::exchange(bay.late, false))
    log::warn("a late copy on the GPU has ended device={} copy={} bytes={} s={:.1f}",
              config_.device, kind_of(job), job.copy.bytes(),
              to_seconds(observed_.look(now()) - *bay.began));
  bay.began.reset();
  Result<Checksum> result = bay.stream.checksum();
  if (!status.ok()) {
    if (bay.lost) {
      lose(status);
    } else {
      log::error("a copy on the GPU failed device={} why=\"{}\"", config_.device, status.message());
    }
    result = std::move(status);
  } else if (bay.stream.land(job.copy) && config_.on_bounced) {
    config_.on_bounced(job.copy.bytes());
  }
  if (waiting_.empty()) {
    free_.push_back(&bay);
  } else {
    Job next = std::move(waiting_.front());
    waiting_.pop_front();
    start(bay, std::move(next));
  }
  job.done(result);
}

// All further copies fail at once, and nobody reads of each.
void CudaCopier::lose(const Status& why) {
  if (!lost_.ok()) return;
  lost_ = why;
  log::error("the GPU is lost: no copy succeeds in this process any more device={} why=\"{}\"",
             config_.device, why.message());
  for (Job& job : std::exchange(waiting_, {})) fail(std::move(job), lost_);
}

// The last byte of the last block.
int64_t extent(const KvMemory& kv) {
  const KvLayout& l = kv.layout;
  const int64_t last_block = int64_t{kv.blocks - 1} * l.block_stride;
  if (l.opaque()) return last_block + static_cast<int64_t>(l.opaque_block_bytes) - 1;
  return last_block + int64_t{l.planes - 1} * l.plane_stride +
         int64_t{l.heads - 1} * l.head_stride + int64_t{l.block_tokens - 1} * l.token_stride +
         l.head_bytes - 1;
}

Status check_layers(const KvMemory& kv) {
  BATON_RETURN_IF_ERROR(cuda_usable());
  for (size_t layer = 0; layer < kv.layer_base.size(); ++layer) {
    const std::byte* const base = kv.layer_base[layer];
    const std::string what = "the KV memory of layer " + std::to_string(layer);
    BATON_RETURN_IF_ERROR(check_on_device(base, *kv.cuda_device, what));
    BATON_RETURN_IF_ERROR(
        check_on_device(base + extent(kv), *kv.cuda_device, "the end of " + what));
  }
  return ok_status();
}

// Which GPU is a thread's current one is the engine's affair on the engine's threads.
template <typename F>
Status on_own_thread(F&& work) {
  Status status;
  std::thread([&] { status = work(); }).join();
  return status;
}

}  // namespace

Status check_memory(const KvMemory& kv) {
  return on_own_thread([&] { return check_layers(kv); });
}

Result<std::unique_ptr<Copier>> make_copier(boost::asio::io_context& io, CudaCopierConfig config) {
  auto copier = std::make_unique<CudaCopier>(io, std::move(config));
  BATON_RETURN_IF_ERROR(on_own_thread([&] { return copier->open(); }));
  return std::unique_ptr<Copier>(std::move(copier));
}

}  // namespace baton::cuda
