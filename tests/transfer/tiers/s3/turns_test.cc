#include "transfer/tiers/s3/turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace baton::s3 {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class TurnsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Turns::Place> ask(TurnKind kind, const std::string& name) {
    return turns_.ask(kind, [this, name] { went_.push_back(name); });
  }
  std::vector<std::string> went() {
    io_.restart();
    io_.poll();
    return std::exchange(went_, {});
  }

  boost::asio::io_context io_;
  Turns turns_{io_, 3, 2};
  std::vector<std::string> went_;
};

TEST_F(TurnsTest, WhatIsWaitedForComesFirstAndStoresNeverHaveAll) {
  auto a = ask(TurnKind::kBackground, "store a"), b = ask(TurnKind::kBackground, "chore b"),
       c = ask(TurnKind::kBackground, "store c");
  EXPECT_THAT(went_, IsEmpty());  // never inside the call
  EXPECT_THAT(went(), ElementsAre("store a", "chore b"));
  auto d = ask(TurnKind::kLayers, "layers d"), e = ask(TurnKind::kLayers, "layers e"),
       f = ask(TurnKind::kFirstLayer, "first f"), g = ask(TurnKind::kLookup, "lookup g");
  EXPECT_THAT(went(), ElementsAre("layers d"));
  EXPECT_EQ(turns_.active(), 3u);
  d.reset();
  EXPECT_THAT(went(), ElementsAre("lookup g"));
  a.reset();
  EXPECT_THAT(went(), ElementsAre("first f"));
  b.reset();
  EXPECT_THAT(went(), ElementsAre("layers e"));
  g.reset();
  EXPECT_THAT(went(), ElementsAre("store c"));
  f.reset();
  e.reset();
  c.reset();
  EXPECT_THAT(went(), IsEmpty());
  EXPECT_EQ(turns_.active(), 0u);
}

TEST_F(TurnsTest, WhoseTurnComesWhileHeGoesIsNotCalled) {
  auto a = ask(TurnKind::kLayers, "a"), b = ask(TurnKind::kLayers, "b"),
       c = ask(TurnKind::kLayers, "c"), d = ask(TurnKind::kLayers, "d");
  a.reset();  // its call is posted already
  d.reset();  // and so is this one's
  EXPECT_THAT(went(), ElementsAre("b", "c"));
  EXPECT_EQ(turns_.active(), 2u);
}

TEST_F(TurnsTest, AtOnceOnlyWhereNobodyWaits) {
  auto a = turns_.ask_now(TurnKind::kBackground), b = turns_.ask_now(TurnKind::kBackground);
  EXPECT_NE(a, nullptr);
  EXPECT_NE(b, nullptr);
  EXPECT_EQ(turns_.ask_now(TurnKind::kBackground), nullptr);
  auto c = turns_.ask_now(TurnKind::kLayers);
  EXPECT_NE(c, nullptr);
  EXPECT_EQ(turns_.ask_now(TurnKind::kLookup), nullptr);
  auto waiting = ask(TurnKind::kBackground, "store");
  c.reset();
  EXPECT_EQ(turns_.ask_now(TurnKind::kLookup), nullptr);
}

// What holds a place may outlive whoever gives them out.
TEST(Turns, PlacesOutliveThem) {
  boost::asio::io_context io;
  auto turns = std::make_unique<Turns>(io, 1, 1);
  bool went = false;
  auto a = turns->ask_now(TurnKind::kBackground);
  auto b = turns->ask(TurnKind::kBackground, [&] { went = true; });
  turns.reset();
  a.reset();
  io.poll();
  EXPECT_TRUE(went);
}

}  // namespace
}  // namespace baton::s3
