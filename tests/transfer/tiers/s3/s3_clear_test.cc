// Erasing by model and tenant.
#include "tests/transfer/tiers/s3/s3_fixture.h"

namespace baton::s3 {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class S3ClearTest : public S3Fixture {
 protected:
  void SetUp() override {
    S3Fixture::SetUp();
    if (IsSkipped()) return;
    tier_ = open(config());
    // Two models, two tenants each, two chunks each.
    for (const uint8_t model : {1, 2}) {
      for (const TenantId tenant : {10, 20}) {
        for (const uint32_t number : {1, 2}) {
          ASSERT_TRUE(
              store(*tier_, chunk(model * 100 + tenant + number, origin_of(model, tenant))).ok());
        }
      }
    }
    for (const char* foreign : {"kv/notes.txt", "other/file", "kvx/a"})
      Lab::get().call("put", {{"bucket", bucket_}, {"key", foreign}, {"hex", "00"}});
  }
  void expect_count(const Result<ChunkCount>& count, uint64_t chunks) {
    ASSERT_TRUE(count.ok()) << count.status().to_string();
    EXPECT_EQ(count->chunks, chunks);
    EXPECT_EQ(count->bytes, chunks * kLayers * kLayerBytes);
  }

  std::unique_ptr<Tier> tier_;
};

TEST_F(S3ClearTest, ADryRunCountsAndErasesNothing) {
  expect_count(clear(*tier_, {}, true), 8);
  expect_count(clear(*tier_, {.fingerprint = origin_of(1).fingerprint}, true), 4);
  expect_count(clear(*tier_, {.tenant = 20}, true), 4);
  expect_count(clear(*tier_, {.fingerprint = origin_of(1).fingerprint, .tenant = 20}, true), 2);
  expect_count(clear(*tier_, {.fingerprint = origin_of(3).fingerprint}, true), 0);
  EXPECT_THAT(listed(), SizeIs(8 + 3));
  EXPECT_EQ(seen("DELETE"), 0u);
  EXPECT_EQ(tier_->report().held.chunks, 8u);
}

TEST_F(S3ClearTest, WhatFitsGoesAndNothingElse) {
  expect_count(clear(*tier_, {.fingerprint = origin_of(1).fingerprint, .tenant = 20}), 2);
  EXPECT_THAT(listed(), SizeIs(6 + 3));
  EXPECT_EQ(tier_->presence(id_of(121, 1, 2)), Tier::Presence::kUnknown);
  EXPECT_THAT(find(*tier_, {id_of(121, 1, 2)}, origin_of(1, 20)), ElementsAre(false));
  EXPECT_THAT(find(*tier_, {id_of(111, 1, 2)}, origin_of(1, 10)), ElementsAre(true));
  expect_count(clear(*tier_, {.tenant = 10}), 4);
  expect_count(clear(*tier_, {.fingerprint = origin_of(2).fingerprint}), 2);
  EXPECT_THAT(listed(), ElementsAre("kv/notes.txt", "kvx/a", "other/file"));
  expect_count(clear(*tier_, {}), 0);
}

TEST_F(S3ClearTest, ListingsOfManyPagesAreReadToTheirEnd) {
  S3Config with = config();
  with.page_objects = 3;
  auto tier = open(with);
  expect_count(clear(*tier, {}, true), 8);
  expect_count(clear(*tier, {.tenant = 10}), 4);
  expect_count(clear(*tier, {}), 4);
  EXPECT_THAT(listed(), SizeIs(3));
}

TEST_F(S3ClearTest, FaultsAreTriedAgain) {
  Lab::get().rules({{{"method", "GET"}, {"fault", "status"}, {"status", 503}, {"code", "SlowDown"}},
                    {{"method", "GET"}, {"fault", "truncate"}, {"after", 500}, {"from", 2}},
                    {{"method", "DELETE"}, {"fault", "reset"}, {"after", -1}, {"count", 2}},
                    {{"method", "DELETE"}, {"fault", "status"}, {"status", 500}, {"from", 5}}});
  expect_count(clear(*tier_, {}), 8);
  EXPECT_THAT(listed(), SizeIs(3));
}

TEST_F(S3ClearTest, AnErrorIsTold) {
  Lab::get().rules(
      {{{"method", "DELETE"}, {"fault", "status"}, {"status", 403}, {"code", "AccessDenied"}}});
  const auto count = clear(*tier_, {});
  EXPECT_EQ(count.status().code(), Code::kRefused);
  EXPECT_THAT(count.status().message(), ::testing::HasSubstr("403 AccessDenied"));
  Lab::get().rules({{{"method", "GET"}, {"fault", "flip"}, {"at", 60}, {"count", -1}}});
  EXPECT_EQ(clear(*tier_, {}).status().code(), Code::kProtocol);
}

// What is about to go is not found meanwhile, though its object may still be there.
TEST_F(S3ClearTest, WhatIsGoingIsFoundByNobody) {
  Lab::get().rules({{{"method", "GET"}, {"path", "list-type"}, {"fault", "delay"}, {"ms", 500}}});
  std::optional<Result<ChunkCount>> count;
  tier_->clear({.tenant = 10}, false, [&](Result<ChunkCount> c) { count.emplace(std::move(c)); });
  EXPECT_THAT(find(*tier_, {id_of(111, 1, 2)}, origin_of(1, 10)), ElementsAre(false));
  EXPECT_EQ(read(*tier_, chunk(111, origin_of(1, 10)))->code(), Code::kNotFound);
  EXPECT_THAT(find(*tier_, {id_of(121, 1, 2)}, origin_of(1, 20)), ElementsAre(true));
  EXPECT_FALSE(count.has_value());
  ASSERT_TRUE(run_until(io_, [&] { return count.has_value(); }));
  expect_count(*count, 4);
}

}  // namespace
}  // namespace baton::s3
