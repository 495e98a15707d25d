#include "perf/result.h"

#include <gtest/gtest.h>

namespace baton::bench {
namespace {

Line line_of(Series ours, Series against) {
  return {.name = "handoff",
          .parameters = {{"layers", 2}},
          .bytes = 1'000'000'000,
          .reference = "a reference",
          .ours = std::move(ours),
          .against = std::move(against),
          .blame = "send"};
}

TEST(Result, TheContractsFields) {
  const Json json = to_json(line_of({0.5, 1, 2}, {0.5, 0.5, 0.5}));
  std::vector<std::string> names;
  for (const auto& [name, value] : json.items()) names.push_back(name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"name", "parameters", "bytes", "goodput_GBps", "reference",
                                      "reference_GBps", "ratio", "median_ms", "p95_ms", "p99_ms",
                                      "samples", "blame", "also", "machine", "date"}));
  EXPECT_EQ(json["goodput_GBps"], 1.0);
  EXPECT_EQ(json["reference_GBps"], 2.0);
  EXPECT_EQ(json["ratio"], 0.5);  // twice the time: half the reference
  EXPECT_EQ(json["median_ms"], 1000.0);
  EXPECT_EQ(json["p95_ms"], 2000.0);
  EXPECT_TRUE(json["p99_ms"].is_null());
  EXPECT_EQ(json["samples"], 3);
  EXPECT_EQ(json["also"]["reference_spread"], 0.0);
}

TEST(Result, WhatDoesNotApplyIsNull) {
  Line line = line_of({1}, {1});
  line.bytes.reset();
  line.blame.clear();
  const Json json = to_json(line);
  for (const char* field : {"bytes", "goodput_GBps", "reference_GBps", "blame"})
    EXPECT_TRUE(json[field].is_null()) << field;
}

TEST(Result, ARatioOfTails) {
  Series ours(200, 1.0), against(200, 1.0);
  ours[0] = ours[1] = ours[2] = 4.0;
  Line line = line_of(ours, against);
  EXPECT_EQ(to_json(line)["ratio"], 1.0);
  line.at = 0.99;
  EXPECT_EQ(to_json(line)["ratio"], 0.25);
  EXPECT_EQ(to_json(line)["p99_ms"], 4000.0);
}

TEST(Result, FurtherWays) {
  Line line = line_of({1}, {1});
  add_also(line, "memcpy", {0.5});
  EXPECT_EQ(line.also["memcpy_GBps"], 2.0);
  EXPECT_EQ(line.also["share_of_memcpy"], 0.5);
}

}  // namespace
}  // namespace baton::bench
