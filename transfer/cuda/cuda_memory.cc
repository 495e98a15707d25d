#include "transfer/cuda/cuda_memory.h"

#include "kernels/cuda.h"

namespace baton::cuda {

Status status_of(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return ok_status();
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation)
    return Status(Code::kResourceExhausted, what + ": " + cudaGetErrorString(error),
                  static_cast<int>(error));
  return cuda_status(error, what);
}

Status use_device(uint32_t device) {
  return status_of(cudaSetDevice(static_cast<int>(device)), "using GPU " + std::to_string(device));
}

void FreeDevice::operator()(std::byte* memory) const { cudaFree(memory); }
void FreePinned::operator()(std::byte* memory) const { cudaFreeHost(memory); }
void DestroyStream::operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
void DestroyEvent::operator()(cudaEvent_t event) const { cudaEventDestroy(event); }

Result<DeviceMemory> device_memory(size_t bytes) {
  void* memory = nullptr;
  BATON_RETURN_IF_ERROR(
      status_of(cudaMalloc(&memory, bytes), std::to_string(bytes) + " bytes of device memory"));
  return DeviceMemory(static_cast<std::byte*>(memory));
}

Result<PinnedMemory> pinned_memory(size_t bytes) {
  void* memory = nullptr;
  BATON_RETURN_IF_ERROR(
      status_of(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped | cudaHostAllocPortable),
                std::to_string(bytes) + " bytes of pinned memory"));
  return PinnedMemory(static_cast<std::byte*>(memory));
}

Result<Stream> stream() {
  cudaStream_t made = nullptr;
  BATON_RETURN_IF_ERROR(
      status_of(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "creating a stream"));
  return Stream(made);
}

Result<Event> event(bool timing) {
  cudaEvent_t made = nullptr;
  const unsigned flags = timing ? cudaEventDefault : cudaEventBlockingSync | cudaEventDisableTiming;
  BATON_RETURN_IF_ERROR(status_of(cudaEventCreateWithFlags(&made, flags), "creating an event"));
  return Event(made);
}

Result<PinnedRange> PinnedRange::create(std::span<std::byte> memory) {
  BATON_RETURN_IF_ERROR(
      status_of(cudaHostRegister(memory.data(), memory.size(),
                                 cudaHostRegisterMapped | cudaHostRegisterPortable),
                "pinning " + std::to_string(memory.size()) + " bytes"));
  return PinnedRange(memory);
}

PinnedRange::~PinnedRange() {
  if (!memory_.empty()) cudaHostUnregister(memory_.data());
}

Status check_on_device(const std::byte* at, uint32_t device, const std::string& what) {
  cudaPointerAttributes attributes{};
  BATON_RETURN_IF_ERROR(status_of(cudaPointerGetAttributes(&attributes, at), what));
  const bool on_device =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  if (on_device && attributes.device == static_cast<int>(device)) return ok_status();
  return Status(Code::kInvalidArgument,
                what + " lies in " +
                    (on_device ? "the memory of GPU " + std::to_string(attributes.device)
                               : std::string("host memory")) +
                    ": expected GPU " + std::to_string(device));
}

}  // namespace baton::cuda
