#include "perf/unchecked_copier.h"

#include "perf/bare_copy.h"

namespace baton::bench {
namespace {

class UncheckedCopier final : public Copier {
 public:
  explicit UncheckedCopier(std::unique_ptr<Copier> checked) : checked_(std::move(checked)) {}

  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    unchecked_gather(BareRuns(from.layout, order), from, payload);
    complete(from, order, seed, payload, std::move(done));
  }

  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t, Done done) override {
    // The bytes go into the blocks; nothing is written to the payload.
    auto* bytes = const_cast<std::byte*>(payload);
    unchecked_scatter(BareRuns(to.layout, order), to, bytes);
    complete(to, order, seed, bytes, std::move(done));
  }
  uint32_t depth() const override { return checked_->depth(); }
  void finish() override { checked_->finish(); }

 private:
  // The copier beneath posts the completion of a copy of no tokens.
  void complete(KvSegment segment, PayloadOrder order, const ChecksumSeed& seed, std::byte* payload,
                Done done) {
    segment.tokens = 0;
    checked_->gather(segment, order, seed, payload,
                     [done = std::move(done)](const Result<Checksum>& copied) {
                       done(copied.ok() ? Result<Checksum>(Checksum{}) : copied);
                     });
  }

  const std::unique_ptr<Copier> checked_;
};

}  // namespace

std::unique_ptr<Copier> make_unchecked_copier(std::unique_ptr<Copier> checked) {
  return std::make_unique<UncheckedCopier>(std::move(checked));
}

}  // namespace baton::bench
