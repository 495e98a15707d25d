#include "transfer/base/ids.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(HandoffId, RoundTripsThroughText) {
  const HandoffId id = HandoffId::random();
  EXPECT_EQ(HandoffId::parse(id.to_string()).value(), id);
  EXPECT_EQ(id.to_string().size(), 36u);
  EXPECT_EQ(id.to_string()[14], '4');
}

TEST(HandoffId, RefusesWhatIsNoUuid) {
  for (const char* text : {"", "123", "123e4567-e89b-42d3-a456-42661417400g",
                           "123e4567ae89b-42d3-a456-426614174000",
                           "123e4567-e89b-42d3-a456-4266141740001"})
    EXPECT_EQ(HandoffId::parse(text).status().code(), Code::kInvalidArgument) << text;
}

TEST(HandoffAttempt, AttemptsAreDifferent) {
  const HandoffId id = HandoffId::random();
  EXPECT_NE((HandoffAttempt{id, 1}), (HandoffAttempt{id, 2}));
  EXPECT_NE(std::hash<HandoffAttempt>()({id, 1}), std::hash<HandoffAttempt>()({id, 2}));
}

TEST(Hex, WritesLowerCase) { EXPECT_EQ(to_hex("\x0f\xa0", 2), "0fa0"); }

}  // namespace
}  // namespace baton
