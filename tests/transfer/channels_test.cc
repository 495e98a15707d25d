#include "transfer/channels.h"

#include <gmock/gmock.h>

#include <optional>

namespace baton {
namespace {

using ::testing::ElementsAre;
using OpenDone = ChannelEndpoint::OpenDone;

struct NoEvents : ChannelEvents {
  void on_segment(const SegmentHeader&, ReceivedBytes) override {}
  void on_staging() override {}
  void on_channel_closed(const Status&) override {}
};

struct NamedChannel : Channel {
  explicit NamedChannel(std::string_view name) : name(name) {}
  std::string_view transport() const override { return name; }
  Result<std::optional<Staging>> acquire(size_t) override { return std::optional<Staging>(); }
  Status publish(const SegmentHeader&, Staging, PublishDone) override { return ok_status(); }
  Status publish(const SegmentHeader&, SlotRef, size_t, PublishDone) override {
    return ok_status();
  }
  void forget(const HandoffAttempt&) override {}
  void close(Status) override {}
  const std::string_view name;
};

// An endpoint whose openings the test answers.
struct Kind : ChannelEndpoint {
  Kind(std::string_view kind, std::vector<std::string>& log) : kind(kind), log(log) {}
  std::string_view name() const override { return kind; }
  void describe(protocol::Hello& hello) const override {
    if (kind == "tcp") hello.tcp_port = 7;
  }
  bool offered(const protocol::Hello&) const override { return has; }
  void open(const protocol::Hello&, bool, ChannelEvents&, OpenDone open_done) override {
    log.push_back("open " + std::string(kind));
    done = std::move(open_done);
  }
  void give_up(const ChannelEvents&) override {
    log.push_back("give up " + std::string(kind));
    if (done) fail(Code::kCancelled);
  }
  void stop() override { log.push_back("stop " + std::string(kind)); }

  void fail(Code code) {
    std::exchange(done, nullptr)(Status(code, std::string(kind) + " does not work"));
  }
  void work() {
    std::exchange(done, nullptr)(std::unique_ptr<Channel>(std::make_unique<NamedChannel>(kind)));
  }

  const std::string_view kind;
  std::vector<std::string>& log;
  bool has = true;
  OpenDone done;
};

class ChannelsTest : public ::testing::Test {
 protected:
  ChannelsTest() {
    std::vector<std::unique_ptr<ChannelEndpoint>> endpoints;
    for (Kind** kind : {&local_, &tcp_}) {
      auto made = std::make_unique<Kind>(kind == &local_ ? "local" : "tcp", log_);
      *kind = made.get();
      endpoints.push_back(std::move(made));
    }
    channels_.emplace(ChannelIdentity{{1}, 2, nullptr}, std::move(endpoints));
  }
  void open(bool dial) {
    channels_->open({}, dial, events_, [this](Result<std::unique_ptr<Channel>> channel) {
      EXPECT_FALSE(opened_.has_value()) << "answered twice";
      opened_.emplace(std::move(channel));
    });
  }

  std::vector<std::string> log_;
  Kind* local_ = nullptr;
  Kind* tcp_ = nullptr;
  std::optional<Channels> channels_;
  NoEvents events_;
  std::optional<Result<std::unique_ptr<Channel>>> opened_;
};

TEST_F(ChannelsTest, TheHelloSaysWhatEachKindNeeds) {
  protocol::Hello hello;
  channels_->describe(hello);
  EXPECT_EQ(hello.channel_nonce, 2u);
  EXPECT_EQ(hello.tcp_port, 7);
}

TEST_F(ChannelsTest, TheDiallerTriesOneKindAfterTheOther) {
  open(true);
  EXPECT_THAT(log_, ElementsAre("open local"));
  local_->fail(Code::kUnavailable);
  EXPECT_THAT(log_, ElementsAre("open local", "open tcp"));
  tcp_->work();
  ASSERT_TRUE(opened_ && opened_->ok());
  EXPECT_EQ((*opened_).value()->transport(), "tcp");
}

TEST_F(ChannelsTest, WhatTheFirstKindGivesIsTaken) {
  open(true);
  local_->work();
  ASSERT_TRUE(opened_ && opened_->ok());
  EXPECT_EQ((*opened_).value()->transport(), "local");
}

TEST_F(ChannelsTest, OnlyWhatThePeerHasIsTried) {
  local_->has = false;
  open(true);
  EXPECT_THAT(log_, ElementsAre("open tcp"));
}

TEST_F(ChannelsTest, TheErrorNamesAllThatWasTried) {
  open(true);
  local_->fail(Code::kUnavailable);
  tcp_->fail(Code::kDeadlineExceeded);
  ASSERT_TRUE(opened_);
  EXPECT_EQ(opened_->status().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(opened_->status().message(), "local does not work; tcp does not work");
}

TEST_F(ChannelsTest, TheOtherSideTakesWhatComesAndWaitsForNothingElse) {
  open(false);
  EXPECT_THAT(log_, ElementsAre("open local", "open tcp"));
  tcp_->work();
  ASSERT_TRUE(opened_ && opened_->ok());
  EXPECT_EQ((*opened_).value()->transport(), "tcp");
  EXPECT_THAT(log_, ElementsAre("open local", "open tcp", "give up local"));
}

// The dialler's first kind had failed already when nobody wanted the channel any more.
TEST_F(ChannelsTest, AfterGivingUpNothingElseIsTried) {
  open(true);
  const OpenDone late = std::exchange(local_->done, nullptr);
  channels_->give_up(events_);
  late(Status(Code::kUnavailable, "local does not work"));
  EXPECT_THAT(log_, ElementsAre("open local", "give up local", "give up tcp"));
  ASSERT_TRUE(opened_);
  EXPECT_FALSE(opened_->ok());
}

TEST(ChannelChoice, IsReadAndRefusedByName) {
  for (const char* name : {"auto", "local", "tcp", "ucx"}) {
    const auto choice = parse_channel_choice(name);
    ASSERT_TRUE(choice.ok());
    EXPECT_STREQ(channel_choice_name(*choice), name);
  }
  EXPECT_EQ(parse_channel_choice("rdma").status().message(),
            "channel is 'rdma': expected auto, local, tcp or ucx");
}

}  // namespace
}  // namespace baton
