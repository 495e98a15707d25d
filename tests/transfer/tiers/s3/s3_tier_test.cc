// The S3 tier against a real gateway, where nothing goes wrong.
#include <openssl/sha.h>

#include "tests/transfer/tiers/s3/s3_fixture.h"
#include "transfer/base/ids.h"

namespace baton::s3 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class S3TierTest : public S3Fixture {};

std::string sha256_hex(std::span<const std::byte> bytes) {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), digest);
  return to_hex(digest, sizeof digest);
}

TEST_F(S3TierTest, WhatWasStoredComesBackByteByByteAndNothingElseIsWritten) {
  auto tier = open(config());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  EXPECT_EQ(tier->presence(stored.id), Tier::Presence::kHeld);
  EXPECT_EQ(tier->report().held.chunks, 1u);
  EXPECT_EQ(tier->report().held.bytes, kLayers * kLayerBytes);
  // Another node knows nothing yet.
  auto other = open(config());
  EXPECT_EQ(other->presence(stored.id), Tier::Presence::kUnknown);
  const auto outcome = read(*other, stored);
  expect_served(*outcome, stored);
  EXPECT_EQ(outcome->layers.front(), 0u);
  EXPECT_EQ(other->presence(stored.id), Tier::Presence::kHeld);
  EXPECT_EQ(metric("baton_tier_stored_bytes_total{tier=\"s3\"}"), kLayers * kLayerBytes);
  EXPECT_EQ(metric("baton_tier_read_bytes_total{tier=\"s3\"}"), kLayers * kLayerBytes);
  EXPECT_EQ(metric("baton_tier_requests_total{method=\"PUT\",status=\"2xx\",tier=\"s3\"}"), 1);
  close(std::move(tier));
  close(std::move(other));
}

TEST_F(S3TierTest, OneRequestBringsHeaderAndFirstLayerAndRangesTheRestInTheirOrder) {
  auto writer = open(config());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*writer, stored).ok());
  S3Config with = config();
  with.range_bytes = 2 * kLayerBytes + 1;
  with.connections = 1;
  auto tier = open(with);
  Lab::get().rules(Json::array());
  const auto outcome = read(*tier, stored);
  expect_served(*outcome, stored);
  EXPECT_THAT(outcome->layers, ElementsAre(0, 1, 2, 3, 4));
  std::vector<std::string> ranges;
  for (const Json& request : Lab::get().seen()) {
    EXPECT_EQ(request["path"], "/" + bucket_ + "/" + name_of(stored));
    ranges.push_back(request["headers"]["range"]);
  }
  EXPECT_THAT(ranges, ElementsAre("bytes=0-46383", "bytes=46384-106383", "bytes=106384-166383"));
}

TEST_F(S3TierTest, ManyChunksAtOnceKeepToTheConnections) {
  auto tier = open(config("", "&connections=4"));
  std::vector<Chunk> stored;
  size_t ended = 0;
  for (uint32_t i = 0; i < 24; ++i) stored.push_back(chunk(i));
  for (const Chunk& one : stored) {
    tier->store(one, now() + baton::testing::kPatience, [&](const Status& status) {
      EXPECT_TRUE(status.ok()) << status.to_string();
      ++ended;
    });
  }
  EXPECT_EQ(tier->report().stores, 24u);
  ASSERT_TRUE(run_until(io_, [&] { return ended == 24; }));
  EXPECT_EQ(tier->report().stores, 0u);
  std::vector<std::unique_ptr<ReadOutcome>> outcomes;
  for (const Chunk& one : stored) outcomes.push_back(begin_read(*tier, one));
  EXPECT_EQ(tier->report().reads, 24u);
  for (size_t i = 0; i < stored.size(); ++i) {
    ASSERT_TRUE(run_until(io_, [&] { return outcomes[i]->end.has_value(); }));
    expect_served(*outcomes[i], stored[i]);
  }
  EXPECT_EQ(tier->report().reads, 0u);
}

TEST_F(S3TierTest, AMissIsRememberedForAWhile) {
  S3Config with = config();
  with.absent_ttl = std::chrono::milliseconds(1500);
  auto tier = open(with);
  const Chunk absent = chunk(1);
  EXPECT_EQ(read(*tier, absent)->code(), Code::kNotFound);
  EXPECT_EQ(tier->presence(absent.id), Tier::Presence::kAbsent);
  EXPECT_EQ(seen("GET"), 1u);
  EXPECT_EQ(read(*tier, absent)->code(), Code::kNotFound);
  EXPECT_EQ(seen("GET"), 1u);
  EXPECT_EQ(metric("baton_tier_lookups_total{result=\"miss\",tier=\"s3\"}"), 2);
  ASSERT_TRUE(
      run_until(io_, [&] { return tier->presence(absent.id) == Tier::Presence::kUnknown; }));
  ASSERT_TRUE(store(*tier, absent).ok());
  expect_served(*read(*tier, absent), absent);
}

TEST_F(S3TierTest, OfTwoThatStoreAtOnceOneWrites) {
  auto first = open(config()), second = open(config());
  const Chunk stored = chunk(1);
  std::vector<Code> codes;
  for (Tier* tier : {first.get(), second.get()}) {
    tier->store(stored, now() + baton::testing::kPatience,
                [&](const Status& status) { codes.push_back(status.code()); });
  }
  ASSERT_TRUE(run_until(io_, [&] { return codes.size() == 2; }));
  EXPECT_THAT(codes, ::testing::UnorderedElementsAre(Code::kOk, Code::kExists));
  // One that comes later is told so by the service; one that knows does not ask.
  auto third = open(config());
  EXPECT_EQ(store(*third, stored).code(), Code::kExists);
  const size_t asked = seen("PUT");
  EXPECT_EQ(store(*third, stored).code(), Code::kExists);
  EXPECT_EQ(seen("PUT"), asked);
  for (const Json& request : Lab::get().seen()) EXPECT_EQ(request["headers"]["if-none-match"], "*");
  expect_served(*read(*third, stored), stored);
}

TEST_F(S3TierTest, AUserOfBotoReadsAnObject) {
  auto tier = open(config());
  const Chunk stored = chunk(3, origin_of(0x5c, 0x1234));
  ASSERT_TRUE(store(*tier, stored).ok());
  ASSERT_THAT(listed(), ElementsAre(name_of(stored)));
  const Json read = Lab::get().call("read", {{"bucket", bucket_}, {"key", name_of(stored)}});
  const Json& header = read["header"];
  EXPECT_EQ(header["key"], stored.id.key.to_hex());
  EXPECT_EQ(header["kv_group"], 1);
  EXPECT_EQ(header["head_group"], 2);
  EXPECT_EQ(header["fingerprint"], std::string(64, ' ').replace(0, 64, [] {
    std::string digits;
    for (int i = 0; i < 32; ++i) digits += "5c";
    return digits;
  }()));
  EXPECT_EQ(header["tenant"], "0000000000001234");
  EXPECT_EQ(header["tokens"], 256);
  EXPECT_EQ(header["layers"], kLayers);
  EXPECT_EQ(header["layer_bytes"], kLayerBytes);
  EXPECT_EQ(header["payload_order"], "plane,head,token,dim");
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const auto bytes = stored.slot.bytes().subspan(layer * kLayerBytes, kLayerBytes);
    EXPECT_EQ(read["layers"][layer], sha256_hex(bytes)) << layer;
  }
}

TEST_F(S3TierTest, LookUpsAskForEachChunkOnce) {
  auto writer = open(config());
  for (const uint32_t number : {1, 3}) ASSERT_TRUE(store(*writer, chunk(number)).ok());
  auto tier = open(config());
  const std::vector<ChunkId> ids = {id_of(1, 1, 2), id_of(2, 1, 2), id_of(3, 1, 2)};
  EXPECT_THAT(find(*tier, ids), ElementsAre(true, false, true));
  EXPECT_EQ(seen("HEAD"), 3u);
  EXPECT_EQ(tier->presence(ids[0]), Tier::Presence::kHeld);
  EXPECT_EQ(tier->presence(ids[1]), Tier::Presence::kAbsent);
  EXPECT_EQ(tier->report().held.bytes, 2 * kLayers * kLayerBytes);
  EXPECT_THAT(find(*tier, ids), ElementsAre(true, false, true));
  EXPECT_EQ(seen("HEAD"), 3u);
  EXPECT_THAT(find(*tier, {}), IsEmpty());
  // Of another model they are other chunks.
  auto other = open(config());
  EXPECT_THAT(find(*other, ids, origin_of(2)), ElementsAre(false, false, false));
  EXPECT_EQ(metric("baton_tier_lookups_total{result=\"hit\",tier=\"s3\"}"), 4);
  EXPECT_EQ(metric("baton_tier_lookups_total{result=\"miss\",tier=\"s3\"}"), 5);
}

TEST_F(S3TierTest, WhatTheReaderCannotUseIsRefusedNamingBoth) {
  auto tier = open(config());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  Chunk wanted = stored;
  wanted.checksums.resize(3);
  auto outcome = read(*tier, wanted);
  EXPECT_EQ(outcome->code(), Code::kRefused);
  EXPECT_THAT(outcome->end->status().message(),
              HasSubstr("the number of layers is 3 here and 5 in the object"));
  // Smaller and larger ones: the first request brings less or more than is there.
  for (const size_t bytes : {kLayerBytes - 1000, 8 * kLayerBytes}) {
    wanted = stored;
    wanted.segment_bytes = bytes;
    if (bytes > kLayerBytes) wanted.checksums.resize(1);
    outcome = read(*tier, wanted);
    EXPECT_EQ(outcome->code(), Code::kRefused) << outcome->end->status().to_string();
  }
  // Of another version; the object stays, since somebody can read it.
  Lab::get().call("change",
                  {{"bucket", bucket_}, {"key", name_of(stored)}, {"at", 8}, {"hex", "07000000"}});
  outcome = read(*tier, stored);
  EXPECT_EQ(outcome->code(), Code::kRefused);
  EXPECT_THAT(outcome->end->status().message(), HasSubstr("version is 1 here and 7 in the object"));
  EXPECT_THAT(outcome->layers, IsEmpty());
  close(std::move(tier));
  EXPECT_THAT(listed(), ElementsAre(name_of(stored)));
}

TEST_F(S3TierTest, AnotherChunksObjectIsErased) {
  auto tier = open(config());
  const Chunk stored = chunk(1), other = chunk(2), foreign = chunk(1, origin_of(9));
  ASSERT_TRUE(store(*tier, stored).ok());
  for (const Chunk* to : {&other, &foreign}) {
    Lab::get().call("copy", {{"bucket", bucket_}, {"key", name_of(stored)}, {"to", name_of(*to)}});
    auto fresh = open(config());
    const auto outcome = read(*fresh, *to);
    EXPECT_EQ(outcome->code(), Code::kChecksum);
    EXPECT_THAT(outcome->layers, IsEmpty());
    EXPECT_EQ(fresh->presence(to->id), Tier::Presence::kAbsent);
    close(std::move(fresh));
    EXPECT_THAT(listed(), ElementsAre(name_of(stored)));
  }
}

TEST_F(S3TierTest, WhatIsErasedIsFoundByNobody) {
  auto tier = open(config());
  std::vector<ChunkId> ids;
  for (uint32_t number = 0; number < 20; ++number) {
    const Chunk one = chunk(number);
    ids.push_back(one.id);
    ASSERT_TRUE(store(*tier, one).ok());
  }
  const ChunkId kept = ids.back();
  ids.pop_back();
  bool erased = false;
  tier->erase(origin_of(1), ids, [&](const Status& status) {
    EXPECT_TRUE(status.ok()) << status.to_string();
    erased = true;
  });
  EXPECT_EQ(tier->presence(ids[0]), Tier::Presence::kAbsent);
  EXPECT_THAT(find(*tier, {ids[0], kept}), ElementsAre(false, true));
  ASSERT_TRUE(run_until(io_, [&] { return erased; }));
  EXPECT_THAT(listed(), ElementsAre(object_name("kv", origin_of(1), kept)));
  EXPECT_TRUE(erase(*tier, ids).ok());  // they are gone: no error
  EXPECT_TRUE(erase(*tier, {}).ok());
}

TEST_F(S3TierTest, AReadThatIsLetGoOfTellsNothingMoreAndLeavesNoWriter) {
  auto tier = open(config());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  // At each moment: at once, after a while, in the callback of a layer.
  auto outcome = begin_read(*tier, stored);
  outcome->read.reset();
  outcome->slot.reset();
  EXPECT_TRUE(no_writers());
  for (int turns = 1; turns < 40; turns += 3) {
    outcome = begin_read(*tier, stored);
    for (int i = 0; i < turns; ++i) {
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(20));
    }
    const size_t told = outcome->layers.size();
    outcome->read.reset();
    io_.restart();
    io_.poll();
    EXPECT_EQ(outcome->layers.size(), told);
    outcome->slot.reset();
    if (outcome->end && outcome->end->ok()) outcome->end.reset();
    EXPECT_TRUE(no_writers());
  }
  std::unique_ptr<Tier::Read> read;
  uint32_t told = 0;
  SlotRef into = slot();
  read = tier->read(
      {.id = stored.id,
       .into = into,
       .layers = kLayers,
       .segment_bytes = kLayerBytes,
       .origin = stored.origin,
       .deadline = now() + baton::testing::kPatience},
      [&](const Chunk&, uint32_t) {
        ++told;
        read.reset();
      },
      [&](const Result<Chunk>&) { ADD_FAILURE() << "told after it was let go of"; });
  ASSERT_TRUE(run_until(io_, [&] { return told > 0; }));
  into.reset();
  EXPECT_TRUE(no_writers());
  baton::testing::run_for(io_, std::chrono::milliseconds(50));
  EXPECT_EQ(told, 1u);
  EXPECT_EQ(tier->report().reads, 0u);
}

TEST_F(S3TierTest, BeyondItsBoundsItRefusesAtOnce) {
  S3Config with = config();
  with.max_stores = 2;
  with.max_reads = 2;
  with.max_lookups = 3;
  with.max_erases = 3;
  with.max_clears = 1;
  auto tier = open(with);
  const Chunk stored = chunk(0);
  ASSERT_TRUE(store(*tier, stored).ok());
  Lab::get().rules({{{"fault", "delay"}, {"ms", 300}, {"count", -1}}});
  std::vector<Code> codes;
  for (uint32_t number = 1; number <= 3; ++number) {
    tier->store(chunk(number), now() + baton::testing::kPatience,
                [&](const Status& status) { codes.push_back(status.code()); });
  }
  ASSERT_TRUE(run_until(io_, [&] { return codes.size() == 3; }));
  EXPECT_THAT(codes, ElementsAre(Code::kResourceExhausted, Code::kOk, Code::kOk));
  std::vector<std::unique_ptr<ReadOutcome>> outcomes;
  for (int i = 0; i < 3; ++i) outcomes.push_back(begin_read(*tier, stored));
  ASSERT_TRUE(run_until(io_, [&] { return outcomes[2]->end.has_value(); }));
  EXPECT_EQ(outcomes[2]->code(), Code::kResourceExhausted);
  EXPECT_TRUE(outcomes[2]->end->status().retryable());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(run_until(io_, [&] { return outcomes[i]->end.has_value(); }));
    expect_served(*outcomes[i], stored);
  }
  std::vector<Code> ends;
  const auto ended = [&](const Status& status) { ends.push_back(status.code()); };
  tier->erase(origin_of(1), {id_of(91), id_of(92)}, ended);
  tier->erase(origin_of(1), {id_of(93), id_of(94)}, ended);
  for (int i = 0; i < 2; ++i)
    tier->clear({}, true, [&](const Result<ChunkCount>& count) { ended(count.status()); });
  ASSERT_TRUE(run_until(io_, [&] { return ends.size() == 4; }));
  EXPECT_THAT(
      ends, ElementsAre(Code::kResourceExhausted, Code::kResourceExhausted, Code::kOk, Code::kOk));
  EXPECT_TRUE(erase(*tier, {id_of(95), id_of(96), id_of(97)}).ok());
  auto other = open(with);
  std::vector<ChunkId> ids(5, stored.id);
  EXPECT_THAT(find(*other, ids), ElementsAre(true, true, true, false, false));
  EXPECT_EQ(metric("baton_tier_rejected_total{tier=\"s3\",what=\"store\"}"), 1);
  EXPECT_EQ(metric("baton_tier_rejected_total{tier=\"s3\",what=\"read\"}"), 1);
  EXPECT_EQ(metric("baton_tier_rejected_total{tier=\"s3\",what=\"lookup\"}"), 1);
}

TEST_F(S3TierTest, WhatDoesNotFitIsRefusedNamingIt) {
  auto tier = open(config());
  Chunk wrong = chunk(1);
  wrong.checksums.resize(kMaxLayers + 1);
  wrong.segment_bytes = 16;
  EXPECT_EQ(store(*tier, wrong).code(), Code::kInvalidArgument);
  wrong = chunk(1);
  wrong.segment_bytes = 1 << 20;
  EXPECT_EQ(store(*tier, wrong).code(), Code::kInvalidArgument);
  EXPECT_EQ(read(*tier, wrong)->code(), Code::kInvalidArgument);
  wrong.checksums.clear();
  EXPECT_EQ(read(*tier, wrong)->code(), Code::kInvalidArgument);
  EXPECT_TRUE(Lab::get().seen().empty());
}

TEST_F(S3TierTest, ClosingLetsWhatIsUnderWayEndAndTakesNothingNew) {
  auto tier = open(config());
  const Chunk stored = chunk(1), late = chunk(2);
  bool is_stored = false, closed = false;
  tier->store(stored, now() + baton::testing::kPatience, [&](const Status& status) {
    EXPECT_TRUE(status.ok());
    EXPECT_FALSE(closed);
    is_stored = true;
  });
  tier->close(now() + baton::testing::kPatience, [&] { closed = true; });
  EXPECT_EQ(store(*tier, late).code(), Code::kUnavailable);
  EXPECT_EQ(read(*tier, late)->code(), Code::kUnavailable);
  EXPECT_THAT(find(*tier, {late.id}), ElementsAre(false));
  EXPECT_EQ(clear(*tier, {}).status().code(), Code::kUnavailable);
  ASSERT_TRUE(run_until(io_, [&] { return closed; }));
  EXPECT_TRUE(is_stored);
}

TEST_F(S3TierTest, ClosingEndsAtItsDeadlineWhateverTheServiceDoes) {
  auto tier = open(config());
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  Lab::get().rules({{{"fault", "stall"}, {"after", -1}, {"count", -1}}});
  auto outcome = begin_read(*tier, stored);
  std::optional<Status> how;
  tier->store(chunk(2), now() + baton::testing::kPatience,
              [&](const Status& status) { how = status; });
  bool closed = false;
  const TimePoint deadline = now() + std::chrono::milliseconds(200);
  tier->close(deadline, [&] { closed = true; });
  ASSERT_TRUE(run_until(io_, [&] { return closed; }));
  EXPECT_GE(now(), deadline);
  EXPECT_EQ(outcome->code(), Code::kUnavailable);
  EXPECT_EQ(how->code(), Code::kUnavailable);
  outcome->slot.reset();
  EXPECT_TRUE(no_writers());
  tier.reset();  // before the read's handle
}

TEST_F(S3TierTest, ItsEndIsAllowedAtAnyTime) {
  const Chunk stored = chunk(1);
  for (int turns = 0; turns < 30; turns += 4) {
    auto tier = open(config());
    tier->store(stored, now() + baton::testing::kPatience, [](const Status& status) {
      EXPECT_TRUE(status.ok() || status.code() == Code::kExists);
    });
    auto outcome = begin_read(*tier, chunk(2));
    tier->find(origin_of(1), {id_of(5)}, now() + baton::testing::kPatience, [](const auto&) {});
    tier->clear({}, true, [](const auto&) {});
    for (int i = 0; i < turns; ++i) {
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(5));
    }
    tier.reset();
    outcome->slot.reset();
    EXPECT_TRUE(no_writers());
    io_.restart();
    io_.poll();
  }
}

TEST_F(S3TierTest, VirtualHostStyleIsUnderstoodByTheGateway) {
  auto tier =
      open(config("http://localhost:" + std::to_string(Lab::get().port("port")), "&style=virtual"));
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  ASSERT_THAT(listed(), ElementsAre(name_of(stored)));
  auto other = open(config());  // path style
  expect_served(*read(*other, stored), stored);
  expect_served(*read(*tier, stored), stored);
  EXPECT_EQ(clear(*tier, {})->chunks, 1u);
}

TEST_F(S3TierTest, EveryRequestIsSignedWithTheTokenOfItsSession) {
  ::setenv("AWS_SESSION_TOKEN", "a+session/token==", 1);
  // The proxy answers by itself: the gateway knows no such session.
  Lab::get().rules({{{"fault", "status"}, {"status", 200}, {"count", -1}}});
  for (const char* more : {"&style=path", "&style=virtual"}) {
    const std::string endpoint = "http://localhost:" + std::to_string(Lab::get().port("proxy"));
    auto tier = open(config(endpoint, more));
    EXPECT_TRUE(store(*tier, chunk(1)).ok());
    EXPECT_TRUE(erase(*tier, {id_of(1)}).ok());
    EXPECT_THAT(find(*tier, {id_of(3)}), ElementsAre(true));
    EXPECT_EQ(clear(*tier, {.fingerprint = origin_of(1).fingerprint}).status().code(),
              Code::kProtocol);
    EXPECT_NE(read(*tier, chunk(4))->code(), Code::kOk);
  }
  const std::string host = ":" + std::to_string(Lab::get().port("proxy"));
  std::vector<std::string> hosts;
  for (const Json& request : Lab::get().seen()) {
    EXPECT_TRUE(request["signed"]) << request;
    EXPECT_EQ(request["headers"]["x-amz-security-token"], "a+session/token==");
    hosts.push_back(request["headers"]["host"]);
  }
  EXPECT_THAT(hosts, ::testing::Contains("localhost" + host));
  EXPECT_THAT(hosts, ::testing::Contains(bucket_ + ".localhost" + host));
  ::unsetenv("AWS_SESSION_TOKEN");
}

TEST_F(S3TierTest, OverTlsTheServiceIsVerified) {
  const Lab& lab = Lab::get();
  auto tier = open(config(lab.tls_proxy(), "&ca=" + lab.text("ca")));
  const Chunk stored = chunk(1);
  ASSERT_TRUE(store(*tier, stored).ok());
  expect_served(*read(*tier, stored), stored);
  const auto none = S3Tier::open(io_, config(lab.tls_proxy(), "&ca=/no/such.pem"), metrics_);
  EXPECT_EQ(none.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(none.status().message(), HasSubstr("'/no/such.pem'"));
  auto distrustful = open(config(lab.tls_proxy()));
  const size_t asked = Lab::get().seen().size();
  const Status status = store(*distrustful, chunk(2));
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("certificate"));
  EXPECT_EQ(Lab::get().seen().size(), asked);
}

TEST_F(S3TierTest, SecretsAreNeverSaid) {
  auto tier = open(config());
  ::setenv("AWS_SECRET_ACCESS_KEY", "wrongsecretwrongsecret", 1);
  auto stranger = open(config());
  const Status status = store(*stranger, chunk(1));
  EXPECT_EQ(status.code(), Code::kRefused);
  EXPECT_THAT(status.message(), HasSubstr("403"));
  for (const std::string& said : {status.message(), metrics_.text(), stranger->report().trouble}) {
    EXPECT_THAT(said, ::testing::Not(HasSubstr("wrongsecret")));
  }
}

}  // namespace
}  // namespace baton::s3
