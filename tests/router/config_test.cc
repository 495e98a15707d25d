#include "router/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace baton::router {
namespace {

using ::testing::HasSubstr;

std::variant<RouterConfig, int> parse(std::vector<std::string> flags) {
  flags.insert(flags.begin(), "baton-router");
  std::vector<char*> argv;
  for (std::string& flag : flags) argv.push_back(flag.data());
  return parse_router_flags(static_cast<int>(argv.size()), argv.data());
}

const std::string kPrefill = "--prefill=http://127.0.0.1:8001=127.0.0.1:9001";
const std::string kDecode = "--decode=http://127.0.0.1:8002=127.0.0.1:9002@127.0.0.1:9102";

TEST(RouterFlags, InstancesAndTimes) {
  const auto parsed = parse({kPrefill, "--prefill", "http://h:1=n:1,n:2", kDecode, "--listen",
                             "127.0.0.1:0", "--budget-ms", "1500", "--policy", "round_robin"});
  ASSERT_TRUE(std::holds_alternative<RouterConfig>(parsed));
  const auto& config = std::get<RouterConfig>(parsed);
  ASSERT_EQ(config.prefillers.size(), 2u);
  EXPECT_EQ(config.prefillers[1].node, (std::vector<HostPort>{{"n", 1}, {"n", 2}}));
  EXPECT_EQ(config.prefillers[1].node_http, std::nullopt);
  ASSERT_EQ(config.decoders.size(), 1u);
  EXPECT_EQ(config.decoders[0].url.to_string(), "http://127.0.0.1:8002");
  EXPECT_EQ(config.decoders[0].node_http, (HostPort{"127.0.0.1", 9102}));
  EXPECT_EQ(config.budget, std::chrono::milliseconds(1500));
  EXPECT_EQ(config.policy, scheduler::PairingPolicy::kRoundRobin);
}

TEST(RouterFlags, BeyondLoopbackWithATokenOrInsecure) {
  const auto starts = [](std::vector<std::string> more) {
    std::vector<std::string> flags = {kPrefill, kDecode, "--listen", "0.0.0.0:8000"};
    flags.insert(flags.end(), more.begin(), more.end());
    return std::holds_alternative<RouterConfig>(parse(flags));
  };
  EXPECT_FALSE(starts({}));
  EXPECT_TRUE(starts({"--insecure"}));
  ::setenv("BATON_TOKEN", "a-token-of-the-tests", 1);
  EXPECT_TRUE(starts({}));
  ::setenv("BATON_TOKEN", "", 1);
  EXPECT_FALSE(starts({"--insecure"}));
  ::unsetenv("BATON_TOKEN");
}

TEST(RouterFlags, WrongOnesAreOneClearLineAndExitCode2) {
  const struct {
    std::vector<std::string> flags;
    const char* says;
  } cases[] = {
      {{kPrefill}, "--decode"},
      {{kDecode}, "--prefill"},
      {{kPrefill, kDecode, "--nonsense"}, "--nonsense"},
      {{kPrefill, kDecode, "--budget-ms", "0"}, "--budget-ms"},
      {{kPrefill, kDecode, "--budget-ms", "soon"}, "soon"},
      {{kPrefill, kDecode, "--policy", "best"}, "'best'"},
      {{kPrefill, kDecode, "--listen", "8000"}, "8000"},
      {{kPrefill, kDecode, "--listen", "0.0.0.0:8000"}, "--listen is 0.0.0.0:8000"},
      {{kPrefill, kDecode, kDecode}, "given twice"},
      {{kPrefill, "--decode", "127.0.0.1:1=127.0.0.1:2"}, "http://"},
      {{kPrefill, "--decode", "http://127.0.0.1:1"}, "there is no '='"},
      {{kPrefill, "--decode", "http://127.0.0.1:1=node"}, "node"},
      {{kPrefill, "--decode", "http://127.0.0.1:1=h:2@x"}, "x"},
  };
  for (const auto& c : cases) {
    testing::internal::CaptureStderr();
    const auto parsed = parse(c.flags);
    const std::string line = testing::internal::GetCapturedStderr();
    ASSERT_TRUE(std::holds_alternative<int>(parsed)) << c.says;
    EXPECT_EQ(std::get<int>(parsed), 2) << c.says;
    EXPECT_THAT(line, HasSubstr(c.says));
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
  }
}

}  // namespace
}  // namespace baton::router
