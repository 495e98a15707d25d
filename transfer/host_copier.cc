#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "kernels/gather.h"
#include "kernels/scatter.h"
#include "transfer/base/nvtx.h"
#include "transfer/copier.h"

namespace baton {
namespace {

class HostCopier final : public Copier {
 public:
  explicit HostCopier(boost::asio::io_context& io) : io_(io) {}

  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    const NvtxRange range("gather");
    finish(baton::gather(from, order, seed, payload), std::move(done));
  }

  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t first_token, Done done) override {
    const NvtxRange range("verify_scatter");
    finish(baton::scatter(to, order, seed, payload, first_token), std::move(done));
  }

 private:
  void finish(Checksum checksum, Done done) {
    boost::asio::post(io_, [checksum, done = std::move(done)] { done(checksum); });
  }

  boost::asio::io_context& io_;
};

}  // namespace

std::unique_ptr<Copier> make_host_copier(boost::asio::io_context& io) {
  return std::make_unique<HostCopier>(io);
}

}  // namespace baton
