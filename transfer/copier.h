// Who runs gathers and scatters: the host's vector code, or a GPU's copy kernels on side streams
// (cuda/cuda_copier.h).
//
// Confined to the progress thread. `done` runs once, on the progress thread, never inside the call.
// Until it has run, the source, the target and the block list must stay; the target counts a
// writer.
#pragma once

#include <functional>
#include <memory>

#include "kernels/checksum.h"
#include "kernels/kv_layout.h"
#include "transfer/base/status.h"

namespace boost::asio {
class io_context;
}

namespace baton {

class Copier {
 public:
  virtual ~Copier() = default;
  // The checksum of the bytes as copied, or why they were not all copied: nothing reads or writes
  // either side any more, and what the target holds is unknown.
  using Done = std::function<void(const Result<Checksum>&)>;
  // Engine blocks → payload.
  virtual void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
                      std::byte* payload, Done done) = 0;
  // Payload → engine blocks from `first_token` on.
  virtual void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
                       const std::byte* payload, uint32_t first_token, Done done) = 0;
  // How many copies are worth having under way at once. More may be asked for; they wait.
  virtual uint32_t depth() const { return 1; }
  // The node stops: nothing more is asked for, and what is under way still ends. A copier whose
  // copies may never end (a GPU that hangs) bounds that from now on.
  virtual void finish() {}
};

// Copies at once, on the calling thread; `done` is posted to `io`.
std::unique_ptr<Copier> make_host_copier(boost::asio::io_context& io);

}  // namespace baton
