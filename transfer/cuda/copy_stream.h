// One copy at a time between an engine's blocks in a GPU's memory and a payload in host memory: a
// CUDA stream with the device and pinned memory that a segment takes on its way.
//
// Externally synchronised. Every call but checksum() and land() is made on a thread whose current
// device is the stream's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/checksum.h"
#include "kernels/kv_layout.h"
#include "transfer/base/status.h"
#include "transfer/cuda/cuda_memory.h"

namespace baton::cuda {

struct SegmentCopy {
  bool gathers = false;
  KvSegment segment;
  PayloadOrder order = PayloadOrder::kTokenHead;
  ChecksumSeed seed;
  std::byte* payload = nullptr;  // a scatter only reads it
  uint32_t first_token = 0;      // of a scatter

  size_t bytes() const { return segment_bytes(segment.layout, segment.tokens); }
  uint32_t blocks() const { return blocks_for(segment.layout, segment.tokens); }
};

class CopyStream {
 public:
  // Of segments of at most so many bytes and blocks. Errors: as in cuda_memory.h.
  static Result<CopyStream> create(size_t segment_bytes, uint32_t segment_blocks);

  // Copies at most `segment_bytes` there and back: a GPU that the kernels were not compiled for, or
  // that computes otherwise than the host, is found now, and what CUDA loads at a kernel's first
  // launch keeps nobody later. Before the first enqueue().
  Status try_kernels(size_t segment_bytes);

  // `pinned`: CUDA may reach the payload; else it goes through memory of the stream's own. The
  // block list may go when this returns. After an error a part of the copy may be under way.
  Status enqueue(const SegmentCopy& copy, bool pinned);
  // Blocks until the copy that was enqueued has ended.
  Status wait_for_copy();
  // Blocks until the stream is through with all it got, of a copy that could not be enqueued too.
  Status wait_for_all();

  // Of the copy that has ended.
  Checksum checksum() const;
  // Puts the payload where the copy wants it, if it is not there yet; whether it went through
  // memory of the stream's own.
  bool land(const SegmentCopy& copy);

 private:
  CopyStream() = default;

  DeviceMemory payload_, note_;
  PinnedMemory host_note_;
  PinnedMemory bounce_;  // for payloads that are not pinned
  Event passed_;
  Stream stream_;  // first to go: what was enqueued uses the others
  bool bounces_ = false;
};

}  // namespace baton::cuda
