#include "perf/timeline_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace baton::bench {
namespace {

using Stage = TimelineEvent::Stage;

TimelineEvent event(Stage stage, int64_t begin_us, int64_t end_us) {
  return {.stage = stage,
          .chunk = 3,
          .layer = 1,
          .bytes = 10,
          .begin = TimePoint(std::chrono::microseconds(begin_us)),
          .end = TimePoint(std::chrono::microseconds(end_us))};
}

TEST(TimelineFile, SendLastsFromTheGatherToTheCopy) {
  const std::vector<TimelineEvent> sender{event(Stage::kCompute, 100, 150),
                                          event(Stage::kSend, 150, 150),
                                          event(Stage::kGather, 150, 170)};
  const std::vector<TimelineEvent> receiver{event(Stage::kVerifyScatter, 190, 200)};
  const std::string file = testing::TempDir() + "/timeline.json";
  ASSERT_TRUE(write_timeline_file(file, sender, receiver).ok());
  std::ifstream in(file);
  const auto json = nlohmann::json::parse(in);
  std::vector<std::string> seen;
  for (const auto& e : json["traceEvents"])
    if (e["ph"] != "M")
      seen.push_back(e["cat"].get<std::string>() + " " + e["ph"].get<std::string>() + " " +
                     std::to_string(e["ts"].get<int>()) + " " +
                     std::to_string(e.value("dur", 0.0)));
  EXPECT_EQ(seen, (std::vector<std::string>{"compute X 0 50.000000", "send b 70 0.000000",
                                            "send e 90 0.000000", "gather X 50 20.000000",
                                            "verify_scatter X 90 10.000000"}));
}

TEST(TimelineFile, SaysWhatItCannotWrite) {
  const std::vector<TimelineEvent> events{event(Stage::kGather, 1, 2)};
  const Status status = write_timeline_file("/no/such/folder/t.json", events, {});
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("/no/such/folder/t.json"), std::string::npos);
  EXPECT_FALSE(write_timeline_file(testing::TempDir() + "/t.json", {}, {}).ok());
}

TEST(Timeline, KeepsWhatFits) {
  Timeline timeline(2);
  for (int i = 0; i < 3; ++i) timeline.add(event(Stage::kGather, i, i + 1));
  EXPECT_EQ(timeline.events().size(), 2u);
  EXPECT_EQ(timeline.left_out(), 1u);
}

}  // namespace
}  // namespace baton::bench
