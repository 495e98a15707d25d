#include "transfer/tiers/s3/known_chunks.h"

#include <gtest/gtest.h>

namespace baton::s3 {
namespace {

using Presence = Tier::Presence;
using std::chrono::seconds;

ChunkId known_id(uint8_t number) {
  ChunkId id;
  id.key.bytes[0] = number;
  return id;
}

const TimePoint kStart{seconds(1000)};

TEST(KnownChunks, WhatWasSeenIsBelievedForATime) {
  KnownChunks known(10, seconds(60), seconds(5));
  EXPECT_EQ(known.presence(known_id(1), kStart), Presence::kUnknown);
  known.held(known_id(1), 100, kStart);
  known.absent(known_id(2), kStart);
  EXPECT_EQ(known.presence(known_id(1), kStart + seconds(59)), Presence::kHeld);
  EXPECT_EQ(known.presence(known_id(1), kStart + seconds(60)), Presence::kUnknown);
  EXPECT_EQ(known.presence(known_id(2), kStart + seconds(4)), Presence::kAbsent);
  EXPECT_EQ(known.presence(known_id(2), kStart + seconds(5)), Presence::kUnknown);
  // The later word counts.
  known.absent(known_id(1), kStart);
  known.held(known_id(2), 50, kStart);
  EXPECT_EQ(known.presence(known_id(1), kStart), Presence::kAbsent);
  EXPECT_EQ(known.presence(known_id(2), kStart), Presence::kHeld);
}

TEST(KnownChunks, CountsWhatIsHeld) {
  KnownChunks known(10, seconds(60), seconds(5));
  known.held(known_id(1), 100, kStart);
  known.held(known_id(2), 50, kStart);
  known.absent(known_id(3), kStart);
  EXPECT_EQ(known.count().chunks, 2u);
  EXPECT_EQ(known.count().bytes, 150u);
  known.held(known_id(1), 70, kStart);
  EXPECT_EQ(known.count().bytes, 120u);
  known.forget(known_id(2));
  known.forget(known_id(9));
  EXPECT_EQ(known.count().chunks, 1u);
  known.forget_all();
  EXPECT_EQ(known.count().chunks, 0u);
  EXPECT_EQ(known.count().bytes, 0u);
  EXPECT_EQ(known.presence(known_id(1), kStart), Presence::kUnknown);
}

TEST(KnownChunks, ABoundedNumberIsRemembered) {
  KnownChunks known(3, seconds(60), seconds(5));
  for (const uint8_t number : {1, 2, 3}) known.held(known_id(number), 10, kStart);
  known.held(known_id(1), 10, kStart);
  known.absent(known_id(4), kStart);
  EXPECT_EQ(known.presence(known_id(2), kStart), Presence::kUnknown);
  EXPECT_EQ(known.presence(known_id(1), kStart), Presence::kHeld);
  EXPECT_EQ(known.presence(known_id(4), kStart), Presence::kAbsent);
  EXPECT_EQ(known.count().chunks, 2u);
  KnownChunks none(0, seconds(60), seconds(5));
  none.held(known_id(1), 10, kStart);
  EXPECT_EQ(none.presence(known_id(1), kStart), Presence::kUnknown);
}

}  // namespace
}  // namespace baton::s3
