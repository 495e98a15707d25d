// The S3 tier through a proxy that makes one mistake after the other: what passes is tried again,
// what does not is told, and nothing hangs, is wrong, or leaves a writer.
#include <random>

#include "tests/transfer/tiers/s3/s3_fixture.h"

namespace baton::s3 {
namespace {

using std::chrono::milliseconds;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class S3FaultsTest : public S3Fixture {
 protected:
  S3Config impatient() const {
    S3Config with = config();
    with.first_pause = milliseconds(5);
    with.max_pause = milliseconds(40);
    with.stall = milliseconds(kSanitized ? 2000 : 1000);  // a busy machine is no fault
    with.range_bytes = 2 * kLayerBytes;
    with.absent_ttl = Duration::zero();
    with.breaker.failures = 1000;
    return with;
  }
  // libcurl itself begins again where a connection that it kept is closed before an answer: such a
  // try may cost none of ours.
  void expect_tries(const Json& fault, double retries) {
    const int count = fault.value("count", 1);
    EXPECT_LE(retries, count) << fault;
    if (fault.value("after", 0) != -1 || fault["fault"] != "reset") {
      EXPECT_EQ(retries, count) << fault;
    }
    EXPECT_GT(seen(fault["method"]), static_cast<size_t>(count)) << fault;
  }
  double retries() const { return metric("baton_tier_retries_total{tier=\"s3\"}"); }
};

// Each of them passes: the chunk is served, after as many tries more as there were faults.
TEST_F(S3FaultsTest, AReadSurvivesWhatPasses) {
  auto tier = open(impatient());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  const Json faults = {
      {{"fault", "status"}, {"status", 500}, {"code", "InternalError"}},
      {{"fault", "status"}, {"status", 503}, {"code", "SlowDown"}},
      {{"fault", "status"}, {"status", 503}, {"code", "SlowDown"}, {"from", 2}, {"count", 2}},
      {{"fault", "status"}, {"status", 429}, {"retry_after", 0}},
      {{"fault", "status"}, {"status", 400}, {"code", "RequestTimeout"}},
      {{"fault", "truncate"}, {"after", 0}},
      {{"fault", "truncate"}, {"after", 100}},
      {{"fault", "truncate"}, {"after", 16384}},
      {{"fault", "truncate"}, {"after", 30001}, {"from", 2}},
      {{"fault", "reset"}, {"after", -1}, {"count", 2}},
      {{"fault", "reset"}, {"after", 20000}, {"count", 2}},
      {{"fault", "reset"}, {"after", 45000}, {"from", 2}, {"count", 2}},
      {{"fault", "stall"}, {"after", -1}},
      {{"fault", "stall"}, {"after", 17000}},
      {{"fault", "stall"}, {"after", 30000}, {"from", 3}},
  };
  for (Json fault : faults) {
    fault["method"] = "GET";
    const double before = retries();
    Lab::get().rules(Json::array({fault}));
    const auto outcome = read(*tier, stored);
    ASSERT_NO_FATAL_FAILURE(expect_served(*outcome, stored)) << fault;
    expect_tries(fault, retries() - before);
  }
  EXPECT_EQ(metric("baton_checksum_failures_total{where=\"s3\"}"), 0);
}

// What was there when it broke off is not asked for again.
TEST_F(S3FaultsTest, ATryGoesOnWhereTheLastOneEnded) {
  auto tier = open(impatient());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  Lab::get().rules({{{"method", "GET"}, {"fault", "reset"}, {"after", 20000}}});
  // A reset may overtake bytes: what has come is known from the second request alone.
  expect_served(*read(*tier, stored), stored);
  Lab::get().rules({{{"method", "GET"}, {"fault", "truncate"}, {"after", 20000}}});
  expect_served(*read(*tier, stored), stored);
  EXPECT_EQ(Lab::get().seen()[1]["headers"]["range"], "bytes=20000-46383");
}

TEST_F(S3FaultsTest, AStoreSurvivesWhatPasses) {
  auto tier = open(impatient());
  const Json faults = {
      {{"fault", "status"}, {"status", 500}},
      {{"fault", "status"}, {"status", 503}, {"code", "SlowDown"}, {"count", 3}},
      {{"fault", "status"}, {"status", 409}, {"code", "ConditionalRequestConflict"}},
      {{"fault", "reset"}, {"after", -1}, {"count", 2}},
      {{"fault", "stall"}, {"after", -1}},
      {{"fault", "cut_upload"}, {"after", 1000}},
      {{"fault", "cut_upload"}, {"after", 100000}, {"count", 2}},
  };
  uint32_t number = 0;
  for (Json fault : faults) {
    fault["method"] = "PUT";
    const double before = retries();
    Lab::get().rules(Json::array({fault}));
    const Chunk stored = chunk(++number);
    const Status status = store(*tier, stored);
    EXPECT_TRUE(status.ok()) << fault << status.to_string();
    expect_tries(fault, retries() - before);
    expect_served(*read(*tier, stored), stored);
  }
}

// The service has written it, and the answer is lost: the second try finds it there.
TEST_F(S3FaultsTest, AStoreWhoseAnswerIsLostHasHappened) {
  auto tier = open(impatient());
  Lab::get().rules({{{"method", "PUT"}, {"fault", "lose_answer"}}});
  const Chunk stored = chunk(1);
  EXPECT_EQ(store(*tier, stored).code(), Code::kExists);
  EXPECT_EQ(seen("PUT"), 2u);
  expect_served(*read(*tier, stored), stored);
}

TEST_F(S3FaultsTest, AStoreThatBreaksOffLeavesNothing) {
  S3Config with = impatient();
  with.tries = 3;
  auto tier = open(with);
  const Chunk stored = chunk(1);
  for (const int after : {0, 10, 16384, 166000}) {
    Lab::get().rules(
        {{{"method", "PUT"}, {"fault", "cut_upload"}, {"after", after}, {"count", -1}}});
    EXPECT_EQ(store(*tier, stored).code(), Code::kUnavailable);
    EXPECT_EQ(seen("PUT"), 3u);
    EXPECT_THAT(listed(), IsEmpty());
    EXPECT_NE(tier->presence(stored.id), Tier::Presence::kHeld);
  }
  Lab::get().rules(Json::array());
  EXPECT_TRUE(store(*tier, stored).ok());
}

TEST_F(S3FaultsTest, WhatDoesNotPassIsNotTriedAgain) {
  auto tier = open(impatient());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  const auto answered = [](int status, const char* code) {
    const Json rule = {{"fault", "status"}, {"status", status}, {"code", code}, {"count", -1}};
    return Json::array({rule});
  };
  Lab::get().rules(answered(403, "AccessDenied"));
  auto outcome = read(*tier, stored);
  EXPECT_EQ(outcome->code(), Code::kRefused);
  EXPECT_THAT(outcome->end->status().message(), HasSubstr("403 AccessDenied"));
  EXPECT_EQ(store(*tier, chunk(2)).code(), Code::kRefused);
  EXPECT_EQ(Lab::get().seen().size(), 2u);
  Lab::get().rules(answered(404, "NoSuchKey"));
  EXPECT_EQ(read(*tier, stored)->code(), Code::kNotFound);
  EXPECT_THAT(find(*tier, {id_of(8), id_of(9)}), ElementsAre(false, false));
  EXPECT_EQ(Lab::get().seen().size(), 3u);
  Lab::get().rules(answered(404, "NoSuchBucket"));
  EXPECT_EQ(read(*tier, stored)->code(), Code::kRefused);
  EXPECT_THAT(tier->report().trouble, HasSubstr("NoSuchBucket"));
  EXPECT_EQ(retries(), 0);
}

TEST_F(S3FaultsTest, ARedirectIsNotFollowed) {
  auto tier = open(impatient());
  Lab::get().rules({{{"fault", "status"},
                     {"status", 307},
                     {"code", "TemporaryRedirect"},
                     {"location", Lab::get().gateway() + "/elsewhere"},
                     {"count", -1}}});
  const auto outcome = read(*tier, chunk(1));
  EXPECT_EQ(outcome->code(), Code::kRefused);
  EXPECT_THAT(outcome->end->status().message(), HasSubstr("307"));
  EXPECT_EQ(Lab::get().seen().size(), 1u);
}

TEST_F(S3FaultsTest, AServiceThatDoesNotKnowRangesIsRefused) {
  auto tier = open(impatient());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  Lab::get().rules({{{"method", "GET"}, {"fault", "no_range"}, {"count", -1}}});
  const auto outcome = read(*tier, stored);
  EXPECT_EQ(outcome->code(), Code::kUnavailable);
  EXPECT_THAT(outcome->end->status().message(), HasSubstr("has no content-range"));
  EXPECT_EQ(Lab::get().seen().size(), 1u);
  EXPECT_THAT(outcome->layers, IsEmpty());
}

// Of requests that carry it; without it they pass.
TEST_F(S3FaultsTest, AServiceThatDoesNotKnowConditionsIsAskedBefore) {
  for (const Json& refusal : {Json{{"status", 501}, {"code", "NotImplemented"}},
                              Json{{"status", 400}, {"code", "NotImplemented"}}}) {
    auto tier = open(impatient());
    Json rule = {{"fault", "status"}, {"header", "if-none-match"}, {"count", -1}};
    rule.update(refusal);
    Lab::get().rules(Json::array({rule}));
    const Chunk first = chunk(refusal["status"]),
                second = chunk(2u * refusal["status"].get<uint32_t>());
    EXPECT_TRUE(store(*tier, first).ok());
    EXPECT_EQ(seen("PUT"), 2u);
    EXPECT_EQ(seen("HEAD"), 1u);
    EXPECT_TRUE(store(*tier, second).ok());  // it has learnt
    EXPECT_EQ(seen("PUT"), 3u);
    EXPECT_EQ(seen("HEAD"), 2u);
    expect_served(*read(*tier, first), first);
    auto other = open(impatient());
    EXPECT_EQ(store(*other, first).code(), Code::kExists);
  }
}

TEST_F(S3FaultsTest, BytesThatAreSpoiltOnTheirWayAreReadAgain) {
  auto tier = open(impatient());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  // In the magic, the JSON, the padding, the digest, layer 0, a later layer.
  for (const int at : {3, 200, 16000, 16380, 16384, 40000}) {
    Lab::get().rules({{{"method", "GET"}, {"fault", "flip"}, {"at", at}}});
    const double before = metric("baton_checksum_failures_total{where=\"s3\"}");
    const auto outcome = read(*tier, stored);
    ASSERT_NO_FATAL_FAILURE(expect_served(*outcome, stored)) << at;
    EXPECT_EQ(metric("baton_checksum_failures_total{where=\"s3\"}") - before, 1) << at;
  }
  Lab::get().rules(
      {{{"method", "GET"}, {"fault", "flip"}, {"at", 31000}, {"from", 2}, {"count", 2}}});
  expect_served(*read(*tier, stored), stored);
  EXPECT_EQ(seen("DELETE"), 0u);
}

TEST_F(S3FaultsTest, AnObjectThatIsBadTwiceIsErasedAndNeverServed) {
  for (const int at : {5, 300, 16384, 100000}) {
    auto tier = open(impatient());
    const Chunk stored = chunk(1);
    ASSERT_TRUE(store(*tier, stored).ok());
    // The next bytes differ from those that are there.
    Lab::get().call("change",
                    {{"bucket", bucket_}, {"key", name_of(stored)}, {"at", at}, {"hex", "fe00"}});
    const auto outcome = read(*tier, stored);
    EXPECT_EQ(outcome->code(), Code::kChecksum);
    EXPECT_THAT(outcome->layers,
                ::testing::Not(::testing::Contains((at - 16384) / 30000 + (at < 16384 ? 100 : 0))));
    outcome->slot.reset();
    EXPECT_TRUE(no_writers());
    close(std::move(tier));
    EXPECT_THAT(listed(), IsEmpty()) << at;
  }
}

TEST_F(S3FaultsTest, AServiceThatNeverWorksIsTriedSoOftenAndNoMore) {
  S3Config with = impatient();
  with.tries = 4;
  auto tier = open(with);
  Lab::get().rules({{{"fault", "status"}, {"status", 503}, {"code", "SlowDown"}, {"count", -1}}});
  const auto outcome = read(*tier, chunk(1));
  EXPECT_EQ(outcome->code(), Code::kUnavailable);
  EXPECT_THAT(outcome->end->status().message(), HasSubstr("503 SlowDown, in 4 tries"));
  EXPECT_EQ(seen("GET"), 4u);
  EXPECT_EQ(store(*tier, chunk(1)).code(), Code::kUnavailable);
  EXPECT_EQ(seen("PUT"), 4u);
  EXPECT_THAT(find(*tier, {id_of(1)}), ElementsAre(false));
  EXPECT_EQ(tier->presence(id_of(1)), Tier::Presence::kUnknown);
  EXPECT_EQ(erase(*tier, {id_of(1)}).code(), Code::kUnavailable);
  EXPECT_EQ(metric("baton_tier_requests_total{method=\"GET\",status=\"5xx\",tier=\"s3\"}"), 4);
}

// Whatever the service does then: silence, bytes that stop, an error that asks for more time.
TEST_F(S3FaultsTest, TheDeadlineHolds) {
  S3Config with = impatient();
  with.stall = std::chrono::seconds(60);
  auto tier = open(with);
  const Chunk stored = chunk(1), other = chunk(2);
  ASSERT_TRUE(store(*tier, stored).ok());
  const Json faults = {
      {{"fault", "stall"}, {"after", -1}, {"count", -1}},
      {{"fault", "stall"}, {"after", 17000}, {"count", -1}, {"method", "GET"}},
      {{"fault", "status"}, {"status", 503}, {"retry_after", 100}, {"count", -1}},
  };
  const TimePoint begin = now();
  for (const Json& fault : faults) {
    Lab::get().rules(Json::array({fault}));
    const auto outcome = read(*tier, stored, milliseconds(300));
    EXPECT_EQ(outcome->code(), Code::kDeadlineExceeded) << outcome->end->status().to_string();
    outcome->slot.reset();
    EXPECT_TRUE(no_writers());
    if (fault.contains("method"))
      continue;  // the others have no answer that could stop in its middle
    EXPECT_EQ(store(*tier, other, milliseconds(300)).code(), Code::kDeadlineExceeded);
    EXPECT_THAT(find(*tier, {other.id}, origin_of(1), milliseconds(300)), ElementsAre(false));
    EXPECT_EQ(tier->presence(other.id), Tier::Presence::kUnknown);
  }
  EXPECT_LT(now() - begin, std::chrono::seconds(20));
}

TEST_F(S3FaultsTest, WhoCannotBeReachedIsUnavailable) {
  for (const char* endpoint : {"http://127.0.0.1:1", "http://no-such-host.invalid"}) {
    S3Config with = impatient();
    with.endpoint = endpoint;
    with.tries = 2;
    auto tier = open(with);
    const auto outcome = read(*tier, chunk(1));
    EXPECT_EQ(outcome->code(), Code::kUnavailable) << outcome->end->status().to_string();
    EXPECT_EQ(store(*tier, chunk(1)).code(), Code::kUnavailable);
    EXPECT_THAT(find(*tier, {id_of(1)}), ElementsAre(false));
    EXPECT_FALSE(tier->report().trouble.empty());
  }
  EXPECT_EQ(metric("baton_tier_requests_total{method=\"GET\",status=\"none\",tier=\"s3\"}"), 4);
}

TEST_F(S3FaultsTest, WhoKeepsFailingIsNotAskedForAWhile) {
  S3Config with = impatient();
  with.tries = 1;
  with.breaker = {.failures = 3, .pause = milliseconds(300), .max_pause = milliseconds(300)};
  auto tier = open(with);
  Lab::get().rules({{{"fault", "status"}, {"status", 503}, {"count", 4}}});
  const Chunk stored = chunk(1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(store(*tier, stored).code(), Code::kUnavailable);
  EXPECT_FALSE(tier->report().available);
  EXPECT_THAT(tier->report().trouble, HasSubstr("503"));
  EXPECT_EQ(metric("baton_tier_available{tier=\"s3\"}"), 0);
  const Status refused = store(*tier, stored);
  EXPECT_EQ(refused.code(), Code::kUnavailable);
  EXPECT_THAT(refused.message(), HasSubstr("not asked for a while"));
  EXPECT_EQ(read(*tier, stored)->code(), Code::kUnavailable);
  EXPECT_THAT(find(*tier, {stored.id}), ElementsAre(false));
  EXPECT_EQ(clear(*tier, {}).status().code(), Code::kUnavailable);
  EXPECT_EQ(Lab::get().seen().size(), 3u);
  // The first trial fails, the second does not.
  ASSERT_TRUE(run_until(io_, [&] { return tier->report().available; }));
  EXPECT_EQ(store(*tier, stored).code(), Code::kUnavailable);
  EXPECT_EQ(Lab::get().seen().size(), 4u);
  EXPECT_FALSE(tier->report().available);
  ASSERT_TRUE(run_until(io_, [&] { return tier->report().available; }));
  EXPECT_TRUE(store(*tier, stored).ok());
  EXPECT_TRUE(tier->report().available);
  EXPECT_EQ(tier->report().trouble, "");
  EXPECT_EQ(metric("baton_tier_available{tier=\"s3\"}"), 1);
  expect_served(*read(*tier, stored), stored);
}

// Faults of every kind, at random, at many chunks at once: each read serves what was stored or says
// that it does not.
TEST_F(S3FaultsTest, InAStormEveryReadServesWhatWasStoredOrNothing) {
  constexpr uint32_t kChunks = 8;
  S3Config with = impatient();
  with.stall = milliseconds(300);
  with.hedge_share = 0.5;
  auto tier = open(with);
  std::vector<Chunk> stored;
  for (uint32_t number = 0; number < kChunks; ++number) {
    stored.push_back(chunk(number));
    // kExists: it took so long that it was tried again.
    ASSERT_THAT(store(*tier, stored.back()).code(), AnyOf(Code::kOk, Code::kExists));
  }
  std::mt19937 random(20240711);
  size_t served = 0, refused = 0;
  for (int round = 0; round < (kSanitized ? 4 : 12); ++round) {
    Json rules = Json::array();
    for (int i = 0; i < 30; ++i) {
      static constexpr const char* kFaults[] = {"truncate", "reset",  "flip",
                                                "stall",    "status", "delay"};
      const int from = 1 + static_cast<int>(random() % 60);
      rules.push_back({{"method", "GET"},
                       {"fault", kFaults[random() % 6]},
                       {"from", from},
                       {"after", static_cast<int>(random() % 60000) - 1000},
                       {"at", random() % 46000},
                       {"ms", random() % 50},
                       {"status", random() % 2 == 0 ? 503 : 500},
                       {"code", "SlowDown"}});
      if (rules.back()["after"] < 0) rules.back()["after"] = -1;
    }
    Lab::get().rules(rules);
    std::vector<std::unique_ptr<ReadOutcome>> outcomes;
    for (const Chunk& one : stored) outcomes.push_back(begin_read(*tier, one));
    for (size_t i = 0; i < stored.size(); ++i) {
      ASSERT_TRUE(run_until(io_, [&] { return outcomes[i]->end.has_value(); }));
      if (outcomes[i]->end->ok()) {
        expect_served(*outcomes[i], stored[i]);
        ++served;
      } else {
        EXPECT_THAT(outcomes[i]->code(), AnyOf(Code::kUnavailable, Code::kChecksum));
        ++refused;
      }
      outcomes[i]->end.reset();
      outcomes[i]->slot.reset();
    }
    EXPECT_TRUE(no_writers());
    // Two flips of one layer in a row: it is gone, and stored again.
    Lab::get().rules(Json::array());
    for (const Chunk& one : stored) {
      if (tier->presence(one.id) == Tier::Presence::kHeld) continue;
      ASSERT_TRUE(run_until(io_, [&] {
        return !Lab::get().call("list", {{"bucket", bucket_}}).contains(name_of(one));
      }));
      ASSERT_THAT(store(*tier, one).code(), AnyOf(Code::kOk, Code::kExists));
    }
  }
  EXPECT_GT(served, refused);
  EXPECT_GT(metric("baton_checksum_failures_total{where=\"s3\"}"), 0);
  EXPECT_GT(retries(), 0);
}

}  // namespace
}  // namespace baton::s3
