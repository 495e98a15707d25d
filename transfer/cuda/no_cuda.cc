// What a build without a CUDA toolkit has instead.
#include "transfer/cuda/cuda_copier.h"

namespace baton::cuda {
namespace {

Status none() {
  return Status(Code::kUnavailable,
                "the KV memory is in a GPU's memory, and this build has no CUDA: "
                "no toolkit was found when it was configured");
}

}  // namespace

Status check_memory(const KvMemory&) { return none(); }

Result<std::unique_ptr<Copier>> make_copier(boost::asio::io_context&, CudaCopierConfig) {
  return none();
}

}  // namespace baton::cuda
