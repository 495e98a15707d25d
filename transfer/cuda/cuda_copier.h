// Copies between an engine's blocks in a GPU's memory and payloads in host memory.
//
// A gather runs the kernel from the blocks into a payload in device memory, then one copy to the
// host; a scatter is one copy from the host, then the kernel into the blocks. The checksum is the
// kernel's, over the bytes as it loaded them. Each payload byte so crosses PCIe once, in the copy
// engine's packets. A kernel that reads or writes mapped host memory would move the same bytes, but
// in packets of a warp's 128 bytes (about 26 more of headers in each: 83 % payload, against 91 %
// for 256), and hold its SMs at the link's pace. What staging costs is one more write and read of
// device memory, which is tens of times as fast. Both ways are measured by `baton bench kernels
// --memory cuda`.
//
// Copies are asynchronous only with pinned memory, so the pools that payloads lie in are registered
// with CUDA. Other payloads (what tcp and ucx received, another process's arena) go through pinned
// memory of the copier's own by one more copy on the progress thread, as long as a host copier's.
//
//   progress thread:  gather() ─ enqueues on a free bay's stream, or queues     done() <─┐
//   the waiter:                  └─> waits for the bays, in their order, and posts ──────┘
//
// Nothing is waited for on the progress thread. A bay is a stream with memory for one segment; as
// many copies run at once as there are bays. CUDA does not come back from an error of its context:
// the first one is logged, and every copy that is asked for later fails without another try. A GPU
// that hangs says nothing: a copy that takes longer than `late_after` is logged and counted once,
// and waited for all the same, because its target has a writer until the GPU says otherwise. That
// time is what the progress thread saw of it (observed_time.h): while this process is stopped no
// copy becomes late.
//
// The end. Who destroys the node, and with it the copier, takes memory back: the node its arenas,
// and the engine its blocks, which it may free, or give to its next request, as soon as the node is
// gone. A copy that hangs may still write there. To leave what is ours allocated for good would not
// help: the blocks are the engine's, and a destructor cannot tell it to leave them too. To wait on
// keeps a process that was told to go, without a word. What takes every writer off is the end of
// the process: the driver stops what its context runs before it gives the memory back. So a copy
// that has not ended `hung_after` after finish() or the destructor's beginning ends the process, by
// one line in the log and _exit(kHungDeviceExit). No destructor and no exit handler runs, CUDA's
// least of all: they would wait for the same GPU. Peers see their connections end. (What bounds it
// is the progress thread's timer and, in the destructor, whoever destroys the node; a progress
// thread that itself hangs in a call of CUDA's is waited for.)
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/copier.h"
#include "transfer/slot_pool.h"

namespace baton {

struct KvMemory;

namespace cuda {

struct CudaCopierConfig {
  uint32_t device = 0;
  size_t segment_bytes = 0;     // of the largest payload
  uint32_t segment_blocks = 0;  // most blocks of a segment
  // Copies under way at once; each has segment_bytes of device memory, and of pinned memory.
  uint32_t bays = 4;
  // Where payloads lie; kept, and registered with CUDA as long as the copier lives. What cannot be
  // registered is logged, and copied like other memory.
  std::vector<std::shared_ptr<SlotPool>> pools;
  // Called on the progress thread for a payload that goes through pinned memory.
  std::function<void(uint64_t bytes)> on_bounced;
  // From a copy's start on the GPU, not from the call; looked at ten times.
  Duration late_after = std::chrono::seconds(10);
  // Called on the progress thread, once for each copy that takes longer.
  std::function<void()> on_late;
  // From finish() on: a copy that has not ended then is taken to hang, and the process ends.
  Duration hung_after = std::chrono::seconds(20);
};

// Whether the blocks are where `kv` says: kInvalidArgument, naming the layer, where they do not lie
// in the memory of that GPU; kUnavailable without a GPU, or where the build has no CUDA.
Status check_memory(const KvMemory& kv);

// kUnavailable without a GPU, or where the build has no CUDA; kResourceExhausted where memory is
// not to be had. Before it is destroyed no copy may be under way, or the io_context must have
// stopped: it waits for the GPU, see above.
Result<std::unique_ptr<Copier>> make_copier(boost::asio::io_context& io, CudaCopierConfig config);

}  // namespace cuda
}  // namespace baton
