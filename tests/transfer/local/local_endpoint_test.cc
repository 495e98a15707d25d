#include "transfer/local/local_endpoint.h"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "tests/transfer/child.h"
#include "tests/transfer/local/test_side.h"
#include "transfer/local/unix_socket.h"

namespace baton::local {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using baton::testing::Child;

constexpr uint64_t kRaw = 77;  // incarnation of a peer made by hand

class LocalEndpointTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  Code outcome(const std::shared_ptr<Side::Opened>& opened) {
    EXPECT_TRUE(until([&] { return opened->has_value(); }));
    return opened->has_value() ? (*opened)->status().code() : Code::kOk;
  }
  static protocol::Hello raw_hello() {
    protocol::Hello hello;
    hello.incarnation = {kRaw};
    hello.channel_nonce = 5;
    return hello;
  }
  static Greeting greeting_to(const Side& side) {
    return {.nonce = side.nonce(), .from = {kRaw}, .to = side.incarnation};
  }
  // A peer by hand that dials, greets and is answered; its arena is `pool`'s.
  UniqueFd join(Side& side, const std::shared_ptr<SlotPool>& pool, Greeting* theirs = nullptr,
                std::vector<UniqueFd>* descriptors = nullptr) {
    auto fd = connect_abstract(side.hello().local_socket);
    EXPECT_TRUE(fd.ok());
    Greeting greeting = greeting_to(side);
    greeting.max_published = 2;
    greeting.arenas[0] = {pool->arena().bytes(), pool->slot_bytes()};
    const int arena = pool->arena().fd();
    EXPECT_TRUE(send_greeting(fd->get(), greeting, {&arena, 1}).ok());
    const auto opened = side.open(raw_hello(), false, side.events);
    EXPECT_EQ(outcome(opened), Code::kOk);
    side.channel = std::move(***opened);
    GreetingReader reader;
    std::vector<UniqueFd> dropped;
    EXPECT_TRUE(until([&] { return *reader.read(fd->get()); }));
    const auto answer = reader.take(descriptors != nullptr ? *descriptors : dropped);
    EXPECT_TRUE(answer.ok());
    EXPECT_EQ(answer->nonce, raw_hello().channel_nonce);
    EXPECT_EQ(answer->from, side.incarnation);
    if (theirs != nullptr) *theirs = *answer;
    return std::move(*fd);
  }
  static void write(const UniqueFd& fd, const RecordBytes& record) {
    EXPECT_EQ(::send(fd.get(), record.data(), record.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(record.size()));
  }

  boost::asio::io_context io_;
};

TEST_F(LocalEndpointTest, EitherSideMayBeFirst) {
  for (const bool dialler_first : {true, false}) {
    Side a(io_, 1), b(io_, 2);
    std::shared_ptr<Side::Opened> ours, theirs;
    if (!dialler_first) theirs = b.open(a.hello(), false, b.events);
    ours = a.open(b.hello(), true, a.events);
    if (dialler_first) {
      run_for(io_, 20ms);
      EXPECT_FALSE(ours->has_value());
      theirs = b.open(a.hello(), false, b.events);
    }
    EXPECT_EQ(outcome(ours), Code::kOk);
    EXPECT_EQ(outcome(theirs), Code::kOk);
  }
}

// As after a control connection that died before the peer opened its end.
TEST_F(LocalEndpointTest, WhatItsDiallerGaveUpIsNotTakenForTheNextOne) {
  Side a(io_, 1), b(io_, 2);
  Events gone;
  const auto given_up = a.open(b.hello(), true, gone);
  run_for(io_, 20ms);  // its greeting waits at b
  a.endpoint->give_up(gone);
  EXPECT_EQ(outcome(given_up), Code::kCancelled);
  const auto theirs = b.open(a.hello(), false, b.events);
  run_for(io_, 20ms);
  EXPECT_FALSE(theirs->has_value());
  const auto ours = a.open(b.hello(), true, a.events);
  EXPECT_EQ(outcome(ours), Code::kOk);
  EXPECT_EQ(outcome(theirs), Code::kOk);
  a.endpoint->give_up(a.events);  // nothing is being opened any more
  EXPECT_TRUE(b.events.closes.empty());
  EXPECT_TRUE(gone.closes.empty());
}

TEST_F(LocalEndpointTest, AWrongNonceOrLifeIsRefused) {
  Side a(io_, 1), b(io_, 2);
  protocol::Hello wrong_nonce = b.hello();
  wrong_nonce.channel_nonce ^= 1;
  EXPECT_EQ(outcome(a.open(wrong_nonce, true, a.events)), Code::kRefused);
  protocol::Hello wrong_life = b.hello();
  wrong_life.incarnation.value ^= 1;
  EXPECT_EQ(outcome(a.open(wrong_life, true, a.events)), Code::kRefused);
}

TEST_F(LocalEndpointTest, NobodyThereAndNobodyOpening) {
  Side a(io_, 1, {.open_deadline = 100ms}), b(io_, 2, {.open_deadline = 100ms});
  protocol::Hello elsewhere = b.hello();
  elsewhere.local_socket = "no-such-socket";
  EXPECT_EQ(outcome(a.open(elsewhere, true, a.events)), Code::kUnavailable);
  elsewhere.local_socket = "";
  EXPECT_EQ(outcome(a.open(elsewhere, true, a.events)), Code::kUnavailable);
  EXPECT_NE(outcome(a.open(b.hello(), true, a.events)), Code::kOk);  // b does not open
  EXPECT_EQ(outcome(a.open(b.hello(), false, a.events)), Code::kDeadlineExceeded);
}

TEST_F(LocalEndpointTest, GarbageAndSilenceAreClosed) {
  Side a(io_, 1, {.open_deadline = 100ms});
  for (const size_t bytes : {size_t{0}, size_t{10}, size_t{200}}) {
    auto fd = connect_abstract(a.hello().local_socket);
    ASSERT_TRUE(fd.ok());
    const std::string junk(bytes, 'x');
    EXPECT_EQ(::send(fd->get(), junk.data(), junk.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes));
    char end;
    EXPECT_TRUE(until([&] {
      const ssize_t got = ::recv(fd->get(), &end, 1, MSG_DONTWAIT);
      return got == 0 || (got < 0 && errno == ECONNRESET);
    }));
  }
}

TEST_F(LocalEndpointTest, ThePeersDescriptorCannotBeMappedForWriting) {
  Side a(io_, 1);
  const auto pool = make_pool(4096, 2);
  Greeting theirs;
  std::vector<UniqueFd> descriptors;
  const UniqueFd fd = join(a, pool, &theirs, &descriptors);
  ASSERT_EQ(descriptors.size(), 2u);
  for (size_t i = 0; i < descriptors.size(); ++i) {
    const size_t bytes = theirs.arenas[i].arena_bytes;
    const int memory = descriptors[i].get();
    EXPECT_EQ(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0), MAP_FAILED);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::ftruncate(memory, 0), -1);
    char byte = 1;
    EXPECT_EQ(::pwrite(memory, &byte, 1, 0), -1);
    void* readable = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, memory, 0);
    ASSERT_NE(readable, MAP_FAILED);
    EXPECT_EQ(::mprotect(readable, bytes, PROT_READ | PROT_WRITE), -1);
    ::munmap(readable, bytes);
  }
}

TEST_F(LocalEndpointTest, AnArenaWithoutSealsIsRefused) {
  Side a(io_, 1);
  auto fd = connect_abstract(a.hello().local_socket);
  ASSERT_TRUE(fd.ok());
  const UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), 8192), 0);
  Greeting greeting = greeting_to(a);
  greeting.arenas[0] = {8192, 4096};
  const int arena = unsealed.get();
  ASSERT_TRUE(send_greeting(fd->get(), greeting, {&arena, 1}).ok());
  EXPECT_EQ(outcome(a.open(raw_hello(), false, a.events)), Code::kProtocol);
}

TEST_F(LocalEndpointTest, WhatAPeerMustNotSayEndsTheChannel) {
  const auto pool = make_pool(4096, 2);
  const auto publish = [](uint64_t sequence, uint64_t offset, uint64_t bytes, ArenaIndex arena) {
    return encode(Publish{segment(1, bytes), arena, sequence, offset});
  };
  const RecordBytes good = publish(1, 0, 100, ArenaIndex::kTransit);
  RecordBytes unknown = good;
  unknown[0] = std::byte{9};
  const std::vector<std::pair<const char*, std::vector<RecordBytes>>> cases = {
      {"unknown kind", {unknown}},
      {"beyond the arena", {publish(1, 8192, 1, ArenaIndex::kTransit)}},
      {"far beyond", {publish(1, UINT64_MAX, 100, ArenaIndex::kTransit)}},
      {"no bytes", {publish(1, 0, 0, ArenaIndex::kTransit)}},
      {"across slots", {publish(1, 4000, 200, ArenaIndex::kTransit)}},
      {"an arena it has not", {publish(1, 0, 1, ArenaIndex::kRetained)}},
      {"sequence skipped", {publish(2, 0, 1, ArenaIndex::kTransit)}},
      {"sequence again", {good, good}},
      {"more than it said",
       {good, publish(2, 0, 1, ArenaIndex::kTransit), publish(3, 0, 1, ArenaIndex::kTransit)}},
      {"consumed, never published", {encode(Consumed{{1}, 1})}},
  };
  for (const auto& [name, records] : cases) {
    SCOPED_TRACE(name);
    Side a(io_, 1);
    const UniqueFd fd = join(a, pool);
    for (const RecordBytes& record : records) write(fd, record);
    ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
    EXPECT_EQ(a.events.closes[0].code(), Code::kProtocol);
  }
}

TEST_F(LocalEndpointTest, APeerThatIsKilledReleasesEverything) {
  Side a(io_, 1);
  protocol::Hello child_hello;
  child_hello.incarnation = {99};
  Child child({BATON_TEST_PEER, "local", a.hello().local_socket, std::to_string(a.nonce()), "1"});
  std::shared_ptr<Side::Opened> opened;
  ASSERT_TRUE(until([&] {  // a start of the process may take longer than the deadline
    if (!opened || (opened->has_value() && !(*opened)->ok())) {
      opened = a.open(child_hello, false, a.events);
    }
    return opened->has_value() && (*opened)->ok();
  }));
  a.channel = std::move(***opened);
  std::vector<Code> outcomes;
  for (uint32_t i = 0; i < 4; ++i) {
    auto staging = a.channel->acquire(4096);
    ASSERT_TRUE(staging.ok() && *staging);
    ASSERT_TRUE(a.channel
                    ->publish(segment(i, 4096), std::move(**staging),
                              [&](const Status& status) { outcomes.push_back(status.code()); })
                    .ok());
  }
  EXPECT_FALSE(a.channel->acquire(4096)->has_value());
  child.signal(SIGKILL);
  ASSERT_TRUE(until([&] { return a.events.closes.size() == 1; }));
  EXPECT_EQ(outcomes, std::vector<Code>(4, Code::kCancelled));
  EXPECT_EQ(a.transit->counts().free, a.transit->counts().total);
}

}  // namespace
}  // namespace baton::local
