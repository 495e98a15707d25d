// Local channels where a token is set: whoever greets proves that he was let in.
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "tests/transfer/local/test_side.h"
#include "transfer/local/unix_socket.h"

namespace baton::local {
namespace {

using namespace std::chrono_literals;
using namespace testing;
using ::testing::HasSubstr;

class LocalAuthTest : public ::testing::Test {
 protected:
  bool until(const std::function<bool()>& condition) { return run_until(io_, condition); }
  std::shared_ptr<Side> side(uint64_t incarnation) {
    return std::make_shared<Side>(io_, incarnation, LocalConfig{.open_deadline = 400ms}, 4,
                                  std::make_shared<ChannelSessions>());
  }
  static void let_in(Side& a, Side& b) {
    const Digest key = random_digest();
    a.sessions->begin(b.incarnation, key);
    b.sessions->begin(a.incarnation, key);
  }
  Status outcome(const std::shared_ptr<Side::Opened>& opened) {
    EXPECT_TRUE(until([&] { return opened->has_value(); }));
    return opened->has_value() ? (*opened)->status() : Status();
  }

  boost::asio::io_context io_;
};

TEST_F(LocalAuthTest, WhoeverWasLetInIsGreeted) {
  const auto a = side(1), b = side(2);
  let_in(*a, *b);
  join(io_, *a, *b);
}

TEST_F(LocalAuthTest, TheGreetingMayComeBeforeTheSession) {
  const auto a = side(1), b = side(2);
  const Digest key = random_digest();
  a->sessions->begin(b->incarnation, key);
  const auto ours = a->open(b->hello(), true, a->events);
  run_for(io_, 20ms);
  b->sessions->begin(a->incarnation, key);
  const auto theirs = b->open(a->hello(), false, b->events);
  EXPECT_TRUE(outcome(ours).ok());
  EXPECT_TRUE(outcome(theirs).ok());
}

TEST_F(LocalAuthTest, OneWithoutTheKeyIsTurnedAwayAndTheRightOneStillGetsIn) {
  const auto a = side(1), b = side(2);
  let_in(*a, *b);
  for (const bool greets_first : {true, false}) {
    SCOPED_TRACE(greets_first);
    // It knows the nonce, which HELLO says to everybody, and calls itself `a`.
    Greeting greeting{.nonce = b->nonce(), .from = a->incarnation, .to = b->incarnation};
    greeting.proof = random_digest();
    auto fd = connect_abstract(b->hello().local_socket);
    ASSERT_TRUE(fd.ok());
    std::shared_ptr<Side::Opened> theirs;
    if (!greets_first) theirs = b->open(a->hello(), false, b->events);
    ASSERT_TRUE(send_greeting(fd->get(), greeting, {}).ok());
    if (greets_first) {
      run_for(io_, 20ms);
      theirs = b->open(a->hello(), false, b->events);
    }
    GreetingReader reader;
    ASSERT_TRUE(until([&] { return *reader.read(fd->get()); }));
    std::vector<UniqueFd> descriptors;
    const auto answer = reader.take(descriptors);
    ASSERT_TRUE(answer.ok());
    EXPECT_TRUE(answer->refusal);
    EXPECT_TRUE(descriptors.empty());
    EXPECT_FALSE(theirs->has_value());
    const auto ours = a->open(b->hello(), true, a->events);
    EXPECT_TRUE(outcome(ours).ok());
    EXPECT_TRUE(outcome(theirs).ok());
  }
}

TEST_F(LocalAuthTest, AListenerWithoutTheKeyGetsNothing) {
  const auto a = side(1), b = side(2);
  a->sessions->begin(b->incarnation, random_digest());
  b->sessions->begin(a->incarnation, random_digest());
  const auto ours = a->open(b->hello(), true, a->events);
  const auto theirs = b->open(a->hello(), false, b->events);
  EXPECT_EQ(outcome(ours).code(), Code::kRefused);
  EXPECT_EQ(outcome(theirs).code(), Code::kDeadlineExceeded);
  // One that answers all the same: its proof is looked at too.
  const std::string name = "baton-test-" + HandoffId::random().to_string();
  const auto listener = listen_abstract(name);
  ASSERT_TRUE(listener.ok());
  protocol::Hello hello = b->hello();
  hello.local_socket = name;
  const auto third = a->open(hello, true, a->events);
  int fd = -1;
  ASSERT_TRUE(until([&] {
    fd = ::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd >= 0;
  }));
  const UniqueFd accepted(fd);
  Greeting answer{.nonce = a->nonce(), .from = b->incarnation, .to = a->incarnation};
  ASSERT_TRUE(send_greeting(fd, answer, {}).ok());
  const Status refused = outcome(third);
  EXPECT_EQ(refused.code(), Code::kRefused);
  EXPECT_THAT(refused.message(), HasSubstr("token"));
}

}  // namespace
}  // namespace baton::local
