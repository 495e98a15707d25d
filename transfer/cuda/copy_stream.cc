#include "transfer/cuda/copy_stream.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda.h"

namespace baton::cuda {
namespace {

// A checksum, then the block list: on both sides of PCIe alike.
struct Note {
  static size_t bytes(uint32_t blocks) { return sizeof(Checksum) + blocks * sizeof(uint32_t); }
  static Checksum* checksum(std::byte* note) { return reinterpret_cast<Checksum*>(note); }
  static uint32_t* blocks(std::byte* note) {
    return reinterpret_cast<uint32_t*>(note + sizeof(Checksum));
  }
};

}  // namespace

Result<CopyStream> CopyStream::create(size_t segment_bytes, uint32_t segment_blocks) {
  CopyStream made;
  const size_t note = Note::bytes(segment_blocks);
  BATON_ASSIGN_OR_RETURN(made.payload_, device_memory(segment_bytes));
  BATON_ASSIGN_OR_RETURN(made.note_, device_memory(note));
  BATON_ASSIGN_OR_RETURN(made.host_note_, pinned_memory(note));
  BATON_ASSIGN_OR_RETURN(made.bounce_, pinned_memory(segment_bytes));
  BATON_ASSIGN_OR_RETURN(made.passed_, event());
  BATON_ASSIGN_OR_RETURN(made.stream_, stream());
  return made;
}

Status CopyStream::enqueue(const SegmentCopy& copy, bool pinned) {
  const size_t bytes = copy.bytes();
  const size_t list_bytes = copy.blocks() * sizeof(uint32_t);
  const cudaStream_t stream = stream_.get();
  const auto move = [&](void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    return status_of(cudaMemcpyAsync(to, from, n, kind, stream),
                     copy.gathers ? "a gather's copy" : "a scatter's copy");
  };
  bounces_ = !pinned;
  std::byte* const host = bounces_ ? bounce_.get() : copy.payload;
  std::memcpy(Note::blocks(host_note_.get()), copy.segment.blocks, list_bytes);
  BATON_RETURN_IF_ERROR(move(Note::blocks(note_.get()), Note::blocks(host_note_.get()), list_bytes,
                             cudaMemcpyHostToDevice));
  if (!copy.gathers) {
    if (bounces_) std::memcpy(host, copy.payload, bytes);
    BATON_RETURN_IF_ERROR(move(payload_.get(), host, bytes, cudaMemcpyHostToDevice));
  }
  LaunchSegment launch{copy.segment, copy.order, copy.seed, payload_.get(), copy.first_token};
  launch.segment.blocks = Note::blocks(note_.get());
  Checksum* const sum = Note::checksum(note_.get());
  BATON_RETURN_IF_ERROR(
      (copy.gathers ? launch_gather : launch_scatter)({&launch, 1}, sum, {}, stream));
  if (copy.gathers)
    BATON_RETURN_IF_ERROR(move(host, payload_.get(), bytes, cudaMemcpyDeviceToHost));
  BATON_RETURN_IF_ERROR(move(host_note_.get(), sum, sizeof(Checksum), cudaMemcpyDeviceToHost));
  return status_of(cudaEventRecord(passed_.get(), stream), "recording a copy's event");
}

Status CopyStream::wait_for_copy() {
  return status_of(cudaEventSynchronize(passed_.get()), "waiting for a copy");
}

Status CopyStream::wait_for_all() {
  return status_of(cudaStreamSynchronize(stream_.get()), "waiting for a copy");
}

Checksum CopyStream::checksum() const { return *Note::checksum(host_note_.get()); }

bool CopyStream::land(const SegmentCopy& copy) {
  if (bounces_ && copy.gathers) std::memcpy(copy.payload, bounce_.get(), copy.bytes());
  return bounces_;
}

Status CopyStream::try_kernels(size_t segment_bytes) {
  const size_t bytes = std::min<size_t>(segment_bytes, 3 * kStripeBytes / 2);
  BATON_ASSIGN_OR_RETURN(const DeviceMemory blocks, device_memory(bytes));
  KvLayout layout;
  layout.block_tokens = 1;
  layout.block_stride = static_cast<int64_t>(bytes);
  layout.opaque_block_bytes = bytes;
  const uint32_t first_block = 0;
  const ChecksumSeed seed{1, bytes};
  std::vector<std::byte> payload(bytes);
  for (size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::byte>(i * 31 + i / 251);
  const Checksum expected = baton::checksum(seed, payload.data(), bytes);
  for (const bool gathers : {false, true}) {
    BATON_RETURN_IF_ERROR(enqueue({.gathers = gathers,
                                   .segment = {blocks.get(), layout, &first_block, 1},
                                   .order = PayloadOrder::kOpaque,
                                   .seed = seed,
                                   .payload = payload.data()},
                                  /*pinned=*/false));
    BATON_RETURN_IF_ERROR(status_of(cudaEventSynchronize(passed_.get()), "trying the kernels"));
    if (checksum() != expected || !std::equal(payload.begin(), payload.end(), bounce_.get()))
      return Status(Code::kInternal, std::string("the GPU's ") + (gathers ? "gather" : "scatter") +
                                         " does not do what the host's does");
    std::memset(bounce_.get(), 0, bytes);  // the gather must bring the bytes back
  }
  return ok_status();
}

}  // namespace baton::cuda
