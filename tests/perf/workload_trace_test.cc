#include "perf/workload_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "perf/replay.h"

namespace baton::bench {
namespace {

using scheduler::EvictionKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WorkloadTraceTest : public ::testing::Test {
 protected:
  void TearDown() override { std::remove(path_.c_str()); }

  // Of blocks of 4 tokens.
  Result<WorkloadTrace> read(const std::string& text) {
    std::ofstream(path_) << text;
    return WorkloadTrace::read(path_, 4);
  }
  static std::string line(const std::string& ids, uint32_t tokens) {
    return R"({"timestamp": 5, "input_length": )" + std::to_string(tokens) +
           R"(, "output_length": 0, "hash_ids": [)" + ids + "]}\n";
  }

  const std::string path_ = ::testing::TempDir() + "workload_trace_test." +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(WorkloadTraceTest, EqualIdsAreEqualBlocks) {
  const auto trace = read(line("70,3,9007199254740993", 12) + line("70,9", 5));
  ASSERT_TRUE(trace.ok()) << trace.status().to_string();
  EXPECT_EQ(trace->blocks(), 5u);
  EXPECT_EQ(trace->distinct_blocks(), 4u);
  ASSERT_EQ(trace->requests().size(), 2u);
  EXPECT_THAT(trace->blocks_of(trace->requests()[0]), ElementsAre(0, 1, 2));
  EXPECT_THAT(trace->blocks_of(trace->requests()[1]), ElementsAre(0, 3));
  EXPECT_EQ(trace->requests()[1].tokens, 5u);
}

TEST_F(WorkloadTraceTest, WhatIsWrongIsNamedWithItsLine) {
  const std::string good = line("1", 4);
  const auto field = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  const std::pair<std::string, std::string> wrong[] = {
      {"{\"timestamp\": 1", "no JSON"},
      {"\n", "no JSON"},
      {"[1]\n", "expected a JSON object, not [1]"},
      {field("\"timestamp\": 5", "\"when\": 5"), "timestamp is missing"},
      {field("\"timestamp\": 5", "\"timestamp\": -1"), "timestamp is -1: expected"},
      {field("\"input_length\": 4", "\"input_length\": 0"), "input_length is 0: expected"},
      {field("\"input_length\": 4", "\"input_length\": 4.0"), "input_length is 4.0: expected"},
      {field("\"input_length\": 4", "\"input_length\": 99999999999"), "from 1 to 1073741824"},
      {field("\"output_length\": 0", "\"output_length\": \"x\""), "output_length is \"x\""},
      {field("[1]", "7"), "hash_ids is 7: expected an array"},
      {field("[1]", "[-3]"), "hash_ids[0] is -3: expected"},
      {field("[1]", "[\"" + std::string(100, 'z') + "\"]"), "zzz…"},
      {field("[1]", "[1, 2]"),
       "hash_ids has 2 blocks: expected 1 of 4 tokens for an input_length "
       "of 4"},
      {field("[1]", "[]"), "hash_ids has 0 blocks"}};
  for (const auto& [text, said] : wrong) {
    const auto trace = read(good + good + text);
    EXPECT_EQ(trace.status().code(), Code::kProtocol) << text;
    EXPECT_THAT(trace.status().message(), HasSubstr(path_ + ":3: ")) << text;
    EXPECT_THAT(trace.status().message(), HasSubstr(said)) << text;
  }
  EXPECT_THAT(read("").status().message(), HasSubstr("there is no request"));
  const auto missing = WorkloadTrace::read(path_ + ".none", 4);
  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr(".none: No such file"));
  EXPECT_FALSE(WorkloadTrace::read(::testing::TempDir(), 4).ok());
}

TEST_F(WorkloadTraceTest, OnlyLeadingBlocksThatAreThereAreHits) {
  // 2 is there when the third request comes, but behind one that is not.
  const auto trace = read(line("1,2,3", 12) + line("1,2,4", 12) + line("9,2", 8));
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(hits_without_bound(*trace), 2u);
  const auto all = replay(*trace, EvictionKind::kLru, std::nullopt);
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->hits, 2u);
  EXPECT_EQ(all->inserted, 5u);
  EXPECT_EQ(all->evictions, 0u);
  EXPECT_EQ(all->held_bytes, 5u * 64);
  EXPECT_EQ(replay(*trace, EvictionKind::kLru, std::nullopt, 2).status().code(), Code::kChecksum);
}

TEST_F(WorkloadTraceTest, ARequestThatIsTooLongKeepsItsBeginning) {
  const auto trace = read(line("1,2,3,4", 16) + line("1,2,3,4", 16));
  ASSERT_TRUE(trace.ok());
  for (const EvictionKind policy :
       {EvictionKind::kLru, EvictionKind::kS3Fifo, EvictionKind::kAgePerUse}) {
    const auto some = replay(*trace, policy, 2);
    ASSERT_TRUE(some.ok());
    EXPECT_EQ(some->hits, 2u);
    EXPECT_EQ(some->skipped, 4u);
    EXPECT_EQ(some->evictions, 0u);
  }
}

// Whatever the policy: a larger tier of one that forgets nothing finds all that there is to find,
// and the books are right.
TEST_F(WorkloadTraceTest, EveryPolicyKeepsItsBooks) {
  std::mt19937 random(8);
  std::string text;
  for (int request = 0; request < 3'000; ++request) {
    const uint32_t chain = random() % 40 * (random() % 3 + 1);
    std::string ids;
    const uint32_t blocks = 1 + random() % 12;
    for (uint32_t i = 0; i < blocks; ++i)
      ids += (i == 0 ? "" : ",") + std::to_string(chain * 100 + i);
    text += line(ids, 4 * blocks);
  }
  const auto trace = read(text);
  ASSERT_TRUE(trace.ok());
  const uint64_t most = hits_without_bound(*trace);
  for (const EvictionKind policy :
       {EvictionKind::kLru, EvictionKind::kS3Fifo, EvictionKind::kAgePerUse}) {
    SCOPED_TRACE(scheduler::eviction_name(policy));
    const auto all = replay(*trace, policy, trace->distinct_blocks());
    ASSERT_TRUE(all.ok());
    EXPECT_EQ(all->hits, most);
    const auto some = replay(*trace, policy, 100);
    ASSERT_TRUE(some.ok());
    EXPECT_GT(some->hits, 0u);
    EXPECT_LT(some->hits, most);
    EXPECT_EQ(some->inserted - some->evictions, 100u);
    EXPECT_EQ(some->held_bytes, 100u * 64);
    EXPECT_EQ(some->bytes, some->inserted * 64);
  }
}

}  // namespace
}  // namespace baton::bench
