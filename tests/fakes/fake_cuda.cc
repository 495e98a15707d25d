#include "tests/fakes/fake_cuda.h"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/gather_device.h"
#include "kernels/scatter_device.h"
#include "transfer/base/mutex.h"

namespace baton::fakes {
namespace {

constexpr cudaError_t kBroken = cudaErrorLaunchFailure;

// Where memory is, and whether the GPU lives.
class Gpu {
 public:
  static Gpu& get() {
    static Gpu gpu;
    return gpu;
  }

  void* allocate(size_t bytes) {
    void* address = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BATON_CHECK(address != MAP_FAILED, "address space for device memory");
    MutexLock lock(mutex_);
    auto* at = static_cast<std::byte*>(address);
    device_[at] = {bytes, std::make_unique<std::byte[]>(bytes)};
    return at;
  }
  void free(void* address) {
    if (address == nullptr) return;
    MutexLock lock(mutex_);
    const auto found = device_.find(static_cast<std::byte*>(address));
    BATON_CHECK(found != device_.end(), "cudaFree of what cudaMalloc gave");
    munmap(address, found->second.bytes);
    device_.erase(found);
  }
  void pin(void* address, size_t bytes) {
    MutexLock lock(mutex_);
    pinned_[static_cast<std::byte*>(address)] = bytes;
  }
  void unpin(void* address) {
    MutexLock lock(mutex_);
    BATON_CHECK(pinned_.erase(static_cast<std::byte*>(address)) == 1, "unpinning what was pinned");
  }
  bool on_device(const void* address) const {
    MutexLock lock(mutex_);
    return find(device_, address) != device_.end();
  }
  // Where the GPU finds the bytes at that address; of host memory only what is pinned.
  std::byte* reach(const void* address) const {
    MutexLock lock(mutex_);
    auto* at = static_cast<std::byte*>(const_cast<void*>(address));
    if (const auto found = find(device_, at); found != device_.end())
      return found->second.memory.get() + (at - found->first);
    BATON_CHECK(find(pinned_, at) != pinned_.end(), "memory that the GPU can reach");
    return at;
  }

  // Whether one more operation may run; waits while all are held.
  bool step() {
    MutexLock lock(mutex_);
    while (held_) let_go_.wait(mutex_);
    if (left_ > 0) --left_;
    return left_ != 0;
  }
  void break_after(int operations) {
    MutexLock lock(mutex_);
    left_ = operations;
  }
  void hold(bool held) {
    MutexLock lock(mutex_);
    held_ = held;
    let_go_.notify_all();
  }
  bool held() const {
    MutexLock lock(mutex_);
    return held_;
  }
  cudaError_t state() const {
    MutexLock lock(mutex_);
    return left_ == 0 ? kBroken : cudaSuccess;
  }

 private:
  struct Allocation {
    size_t bytes;
    std::unique_ptr<std::byte[]> memory;
  };
  static size_t size(const Allocation& allocation) { return allocation.bytes; }
  static size_t size(size_t bytes) { return bytes; }
  template <typename Map>
  static typename Map::const_iterator find(const Map& map, const void* address) {
    auto* at = static_cast<std::byte*>(const_cast<void*>(address));
    auto after = map.upper_bound(at);
    if (after == map.begin()) return map.end();
    --after;
    return at < after->first + size(after->second) ? after : map.end();
  }

  mutable Mutex mutex_;
  std::map<std::byte*, Allocation> device_ BATON_GUARDED_BY(mutex_);
  std::map<std::byte*, size_t> pinned_ BATON_GUARDED_BY(mutex_);
  int left_ BATON_GUARDED_BY(mutex_) = -1;  // operations; negative: no end
  CondVar let_go_;
  bool held_ BATON_GUARDED_BY(mutex_) = false;
};

// The lanes of a warp, one after the other.
class OneByOne {
 public:
  OneByOne() {
    for (uint32_t lane = 0; lane < kLanes; ++lane) keys_[lane] = lane_keys(kNhKeys, lane);
  }
  template <typename F>
  NhPair sum(F&& of_lane) {
    NhPair nh;
    for (uint32_t lane = 0; lane < kLanes; ++lane) nh = nh + of_lane(keys_[lane], lane);
    return nh;
  }
  void add(uint64_t* sum, uint64_t value) { *sum += value; }

 private:
  LaneKeys keys_[kLanes];
};

}  // namespace
}  // namespace baton::fakes

// What cudaStream_t points to.
struct CUstream_st {
 public:
  CUstream_st() : thread_([this] { run(); }) {}
  // CUDA's goes at once, and what is enqueued still runs: a test that holds it has found somebody
  // who did not wait.
  ~CUstream_st() {
    {
      baton::MutexLock lock(mutex_);
      BATON_CHECK(done_ == added_ || !baton::fakes::Gpu::get().held(),
                  "destroying a stream that is through with its work");
      stopping_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  void add(std::function<void()> work) {
    baton::MutexLock lock(mutex_);
    work_.push_back(std::move(work));
    ++added_;
    changed_.notify_all();
  }
  uint64_t added() const {
    baton::MutexLock lock(mutex_);
    return added_;
  }
  void wait(uint64_t until) {
    baton::MutexLock lock(mutex_);
    while (done_ < until) changed_.wait(mutex_);
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> work;
      {
        baton::MutexLock lock(mutex_);
        while (work_.empty() && !stopping_) changed_.wait(mutex_);
        if (work_.empty()) return;
        work = std::move(work_.front());
        work_.pop_front();
      }
      if (baton::fakes::Gpu::get().step()) work();
      baton::MutexLock lock(mutex_);
      ++done_;
      changed_.notify_all();
    }
  }

  mutable baton::Mutex mutex_;
  baton::CondVar changed_;
  std::deque<std::function<void()>> work_ BATON_GUARDED_BY(mutex_);
  uint64_t added_ BATON_GUARDED_BY(mutex_) = 0;
  uint64_t done_ BATON_GUARDED_BY(mutex_) = 0;
  bool stopping_ BATON_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// What cudaEvent_t points to.
struct CUevent_st {
  using Time = std::chrono::steady_clock::time_point;

  CUstream_st* stream = nullptr;
  uint64_t at = 0;
  std::shared_ptr<std::atomic<Time>> passed = std::make_shared<std::atomic<Time>>();

  Time when() const { return passed->load(); }
};

namespace baton {
namespace {

using fakes::Gpu;

template <typename Body>
Status launch(std::span<const LaunchSegment> segments, Checksum* sums, CudaStream stream) {
  BATON_RETURN_IF_ERROR(cuda_status(Gpu::get().state(), "launching a kernel"));
  for (size_t first = 0; first < segments.size(); first += kBatchSegments) {
    const size_t count = std::min<size_t>(kBatchSegments, segments.size() - first);
    std::vector<LaunchSegment> batch(segments.begin() + static_cast<ptrdiff_t>(first),
                                     segments.begin() + static_cast<ptrdiff_t>(first + count));
    BATON_RETURN_IF_ERROR(make_batch(batch).status());
    stream->add([batch = std::move(batch), to = sums + first]() mutable {
      for (LaunchSegment& s : batch) {
        s.segment.base = Gpu::get().reach(s.segment.base);
        s.segment.blocks = reinterpret_cast<const uint32_t*>(Gpu::get().reach(s.segment.blocks));
        s.payload = Gpu::get().reach(s.payload);
      }
      auto* results = reinterpret_cast<uint64_t*>(Gpu::get().reach(to));
      std::memset(results, 0, batch.size() * sizeof(uint64_t));
      fakes::OneByOne team;
      const auto device_batch = make_batch(batch);
      run_worker<Body>(device_batch.value(), results, 0, 1, team);
    });
  }
  return ok_status();
}

}  // namespace

Status cuda_status(int error, const std::string& what) {
  if (error == cudaSuccess) return ok_status();
  return {Code::kInternal, what + ": " + cudaGetErrorString(static_cast<cudaError_t>(error)),
          error};
}

Status cuda_usable() { return ok_status(); }

Status launch_gather(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape,
                     CudaStream stream) {
  return launch<GatherBody>(segments, sums, stream);
}

Status launch_scatter(std::span<const LaunchSegment> segments, Checksum* sums, LaunchShape,
                      CudaStream stream) {
  return launch<ScatterBody>(segments, sums, stream);
}

namespace fakes::fake_cuda {

void break_after(int operations) { Gpu::get().break_after(operations); }
void mend() { Gpu::get().break_after(-1); }
void hold() { Gpu::get().hold(true); }
void let_go() { Gpu::get().hold(false); }

}  // namespace fakes::fake_cuda
}  // namespace baton

// --- the runtime

using baton::fakes::Gpu;

extern "C" {

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? Gpu::get().state() : cudaErrorInvalidDevice;
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == baton::fakes::kBroken ? "unspecified launch failure" : "an error of the fake GPU";
}
cudaError_t cudaGetLastError() { return Gpu::get().state(); }

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = Gpu::get().allocate(bytes);
  return Gpu::get().state();
}
cudaError_t cudaFree(void* memory) {
  Gpu::get().free(memory);
  return Gpu::get().state();
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = ::operator new(bytes);
  Gpu::get().pin(*memory, bytes);
  return Gpu::get().state();
}
cudaError_t cudaFreeHost(void* memory) {
  Gpu::get().unpin(memory);
  ::operator delete(memory);
  return Gpu::get().state();
}
cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
  Gpu::get().pin(memory, bytes);
  return Gpu::get().state();
}
cudaError_t cudaHostUnregister(void* memory) {
  Gpu::get().unpin(memory);
  return Gpu::get().state();
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* at) {
  *attributes = {};
  attributes->type = Gpu::get().on_device(at) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return Gpu::get().state();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return Gpu::get().state();
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return Gpu::get().state();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream->wait(stream->added());
  return Gpu::get().state();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return Gpu::get().state();
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return Gpu::get().state();
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (Gpu::get().state() != cudaSuccess) return Gpu::get().state();
  stream->add([passed = event->passed] { passed->store(std::chrono::steady_clock::now()); });
  event->stream = stream;
  event->at = stream->added();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->stream != nullptr) event->stream->wait(event->at);
  return Gpu::get().state();
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "fake GPU");
  return Gpu::get().state();
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 2;
  return Gpu::get().state();
}
cudaError_t cudaDeviceSynchronize() { return Gpu::get().state(); }  // nothing is left under way
// Time is the host's.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->when() - begin->when()).count();
  return Gpu::get().state();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  stream->add([other = event->stream, at = event->at] { other->wait(at); });
  return Gpu::get().state();
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  stream->add([=] { function(data); });
  return Gpu::get().state();
}
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  std::memset(Gpu::get().reach(memory), value, bytes);
  return Gpu::get().state();
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  if (Gpu::get().state() != cudaSuccess) return Gpu::get().state();
  Gpu::get().reach(to);
  Gpu::get().reach(from);
  stream->add([=] { std::memcpy(Gpu::get().reach(to), Gpu::get().reach(from), bytes); });
  return cudaSuccess;
}
// With any host memory.
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  std::memcpy(kind == cudaMemcpyHostToDevice ? Gpu::get().reach(to) : to,
              kind == cudaMemcpyDeviceToHost ? Gpu::get().reach(from) : from, bytes);
  return Gpu::get().state();
}

}  // extern "C"
