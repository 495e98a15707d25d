// A GET that is silent is asked a second time, and whichever speaks first goes on.
#include "tests/transfer/tiers/s3/s3_fixture.h"
#include "transfer/tiers/s3/hedging.h"

namespace baton::s3 {
namespace {

using std::chrono::milliseconds;

class S3HedgingTest : public S3Fixture {
 protected:
  void SetUp() override {
    S3Fixture::SetUp();
    if (IsSkipped()) return;
    S3Config with = config();
    with.stall = std::chrono::seconds(20);  // nothing but a hedge helps in time
    with.hedge_share = 0.5;
    with.min_hedge = milliseconds(150);
    with.range_bytes = 2 * kLayerBytes;
    with.connections = 64;
    tier_ = open(with);
    stored_ = chunk(1);
    ASSERT_TRUE(store(*tier_, stored_).ok());
    // Until it knows how long an answer takes.
    for (int i = 0; i < 8; ++i) expect_served(*read(*tier_, stored_), stored_);
    Lab::get().rules(Json::array());
  }
  void TearDown() override {
    stored_ = {};
    S3Fixture::TearDown();
  }
  double hedges() const { return metric("baton_tier_hedges_total{tier=\"s3\"}"); }
  double won() const { return metric("baton_tier_hedges_won_total{tier=\"s3\"}"); }

  std::unique_ptr<Tier> tier_;
  Chunk stored_;
};

TEST_F(S3HedgingTest, AnAnswerThatDoesNotComeIsReplacedByTheSecond) {
  // The first request of the read; a later one; one in whose middle it stops, within a layer and at
  // a layer's end.
  const Json faults = {{{"after", -1}},
                       {{"after", -1}, {"from", 2}},
                       {{"after", 20000}},
                       {{"after", 40000}, {"from", 2}},
                       {{"after", 30000}, {"from", 3}}};
  for (Json fault : faults) {
    fault["method"] = "GET";
    fault["fault"] = "stall";
    Lab::get().rules(Json::array({fault}));
    const double hedges_before = hedges(), won_before = won();
    const TimePoint begin = now();
    const auto outcome = read(*tier_, stored_);
    ASSERT_NO_FATAL_FAILURE(expect_served(*outcome, stored_)) << fault;
    EXPECT_LT(now() - begin, std::chrono::seconds(15)) << fault;
    EXPECT_GE(hedges() - hedges_before, 1) << fault;
    EXPECT_GE(won() - won_before, 1) << fault;
    outcome->slot.reset();
    outcome->end.reset();
    EXPECT_TRUE(no_writers());
  }
  EXPECT_EQ(metric("baton_tier_retries_total{tier=\"s3\"}"), 0);
  EXPECT_EQ(metric("baton_checksum_failures_total{where=\"s3\"}"), 0);
}

// The second asks for what is missing only.
TEST_F(S3HedgingTest, TheSecondAsksForWhatIsMissing) {
  Lab::get().rules({{{"method", "GET"}, {"fault", "stall"}, {"after", 20000}}});
  expect_served(*read(*tier_, stored_), stored_);
  EXPECT_EQ(Lab::get().seen()[1]["headers"]["range"], "bytes=20000-46383");
}

// Of one layer: there is no other request that a slow machine could hedge.
TEST_F(S3HedgingTest, TheFirstGoesOnWhereItSpeaksFirst) {
  const Chunk single = chunk(2, origin_of(1), 1);
  ASSERT_TRUE(store(*tier_, single).ok());
  for (const Json& second :
       {Json{{"fault", "stall"}, {"after", -1}}, Json{{"fault", "status"}, {"status", 503}}}) {
    Json rules = {{{"method", "GET"}, {"fault", "delay"}, {"ms", 600}}, second};
    rules[1].update({{"method", "GET"}, {"from", 2}});
    Lab::get().rules(rules);
    const double hedges_before = hedges(), won_before = won();
    expect_served(*read(*tier_, single), single);
    EXPECT_EQ(hedges() - hedges_before, 1) << second;
    EXPECT_EQ(won() - won_before, 0) << second;
  }
}

// The first is fenced by then: a new try goes on where the second ended.
TEST_F(S3HedgingTest, ASecondThatWinsAndFailsIsTriedAgain) {
  const Chunk single = chunk(2, origin_of(1), 1);
  ASSERT_TRUE(store(*tier_, single).ok());
  Lab::get().rules({{{"method", "GET"}, {"fault", "stall"}, {"after", 5000}},
                    {{"method", "GET"}, {"fault", "truncate"}, {"after", 9000}, {"from", 2}}});
  const double won_before = won(), before = metric("baton_tier_retries_total{tier=\"s3\"}");
  expect_served(*read(*tier_, single), single);
  EXPECT_EQ(won() - won_before, 1);
  EXPECT_EQ(metric("baton_tier_retries_total{tier=\"s3\"}") - before, 1);
  EXPECT_EQ(seen("GET"), 3u);
}

TEST_F(S3HedgingTest, AReadIsLetGoOfWithBothUnderWay) {
  Lab::get().rules({{{"method", "GET"}, {"fault", "stall"}, {"after", -1}, {"count", -1}}});
  auto outcome = begin_read(*tier_, stored_);
  ASSERT_TRUE(run_until(io_, [&] { return hedges() == 1; }));
  outcome->read.reset();
  outcome->slot.reset();
  EXPECT_TRUE(no_writers());
}

TEST_F(S3HedgingTest, HedgesAreABoundedShare) {
  constexpr int kReads = 20;
  const double before = hedges();
  Lab::get().rules({{{"method", "GET"}, {"fault", "stall"}, {"after", -1}, {"count", -1}}});
  std::vector<std::unique_ptr<ReadOutcome>> outcomes;
  for (int i = 0; i < kReads; ++i)
    outcomes.push_back(begin_read(*tier_, stored_, std::chrono::seconds(2)));
  for (const auto& outcome : outcomes) {
    ASSERT_TRUE(run_until(io_, [&] { return outcome->end.has_value(); }));
    EXPECT_EQ(outcome->code(), Code::kDeadlineExceeded);
  }
  EXPECT_GE(hedges() - before, 1);
  EXPECT_LE(hedges() - before, Hedging::kMaxSaved + 0.5 * kReads);  // hedge_share of them
}

}  // namespace
}  // namespace baton::s3
