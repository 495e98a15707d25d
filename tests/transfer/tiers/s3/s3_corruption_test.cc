// Objects that are spoilt where they lie, each in another way: none is served.
#include <map>

#include "tests/transfer/tiers/s3/s3_fixture.h"

namespace baton::s3 {
namespace {

using ::testing::AnyOf;

class S3CorruptionTest : public S3Fixture {};

TEST_F(S3CorruptionTest, NoneOfHundredsIsServed) {
  S3Config with = config(Lab::get().gateway());
  with.absent_ttl = Duration::zero();
  with.range_bytes = 4096;
  auto tier = open(with);
  const Chunk stored = chunk(1, origin_of(1), 3, 2048);
  ASSERT_TRUE(store(*tier, stored).ok());
  const auto erased = [&] {
    return metric("baton_tier_requests_total{method=\"DELETE\",status=\"2xx\",tier=\"s3\"}");
  };
  std::map<std::string, int> kinds;
  for (int seed = 0; seed < (kSanitized ? 60 : 300); ++seed) {
    const Json kind =
        Lab::get().call("corrupt", {{"bucket", bucket_}, {"key", name_of(stored)}, {"seed", seed}});
    ++kinds[kind.get<std::string>()];
    const double before = erased();
    // Layers that are as they were may be told; begin_read compares their bytes.
    const auto outcome = read(*tier, stored);
    // What says that it is of another version may be right for somebody else.
    EXPECT_THAT(outcome->code(), AnyOf(Code::kChecksum, Code::kRefused)) << seed << kind;
    EXPECT_LT(outcome->layers.size(), stored.checksums.size()) << seed << kind;
    if (outcome->code() == Code::kChecksum) {
      ASSERT_TRUE(run_until(io_, [&] { return erased() > before; }));
      EXPECT_NE(tier->presence(stored.id), Tier::Presence::kHeld);
    }
    outcome->slot.reset();
    ASSERT_TRUE(no_writers());
  }
  EXPECT_EQ(kinds.size(), 8u);
}

}  // namespace
}  // namespace baton::s3
