#include "examples/reference_engine/options.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace baton::reference {
namespace {

std::variant<Options, int> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "reference_engine");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return parse_options(static_cast<int>(argv.size()), argv.data());
}

TEST(Options, ReadsEveryFlag) {
  const auto parsed = parse({"--role",
                             "prefill",
                             "--model",
                             "m.gguf",
                             "--model-name",
                             "n",
                             "--listen",
                             "127.0.0.1:1",
                             "--node",
                             "127.0.0.1:2",
                             "--node-http",
                             "127.0.0.1:3",
                             "--block-tokens",
                             "32",
                             "--chunk-tokens",
                             "64",
                             "--kv-blocks",
                             "7",
                             "--threads",
                             "2",
                             "--prefill-chunk",
                             "9",
                             "--max-batch",
                             "3",
                             "--max-queue",
                             "4",
                             "--host-tier",
                             "1GiB",
                             "--tier-policy",
                             "s3fifo",
                             "--tenant-quota",
                             "4MiB",
                             "--transit",
                             "2MiB",
                             "--window",
                             "3KiB",
                             "--transient",
                             "--retain-received",
                             "--seed",
                             "5",
                             "--heartbeat-ms",
                             "10",
                             "--first-contact-ms",
                             "11",
                             "--record-ms",
                             "15",
                             "--accept-ms",
                             "12",
                             "--progress-ms",
                             "13",
                             "--budget-ms",
                             "14",
                             "--wait-when-full",
                             "--store",
                             "127.0.0.1:4",
                             "--huge-pages"});
  ASSERT_TRUE(std::holds_alternative<Options>(parsed));
  const Options& options = std::get<Options>(parsed);
  EXPECT_EQ(options.role, TransferRole::kPrefill);
  EXPECT_EQ(options.model, "m.gguf");
  EXPECT_EQ(options.model_name, "n");
  EXPECT_EQ(options.listen, (HostPort{"127.0.0.1", 1}));
  EXPECT_EQ(options.node, (HostPort{"127.0.0.1", 2}));
  EXPECT_EQ(options.node_options.node_http, "127.0.0.1:3");
  EXPECT_EQ(options.block_tokens, 32u);
  EXPECT_EQ(options.chunk_tokens, 64u);
  EXPECT_EQ(options.kv_blocks, 7u);
  EXPECT_EQ(options.threads, 2u);
  EXPECT_EQ(options.prefill_chunk, 9u);
  EXPECT_EQ(options.max_batch, 3u);
  EXPECT_EQ(options.max_queue, 4u);
  EXPECT_EQ(options.host_tier_bytes, 1u << 30);
  EXPECT_EQ(options.node_options.tier_policy, "s3fifo");
  EXPECT_EQ(options.node_options.tenant_quota, "4MiB");
  EXPECT_EQ(options.transit_bytes, 2u << 20);
  EXPECT_EQ(options.window_bytes, 3u << 10);
  EXPECT_TRUE(options.transient && options.retain_received && options.node_options.huge_pages);
  EXPECT_EQ(options.seed, 5u);
  EXPECT_EQ(options.node_options.heartbeat_ms, 10u);
  EXPECT_EQ(options.first_contact, std::chrono::milliseconds(11));
  EXPECT_EQ(options.record, std::chrono::milliseconds(15));
  EXPECT_EQ(options.accept, std::chrono::milliseconds(12));
  EXPECT_EQ(options.node_options.progress_ms, 13u);
  EXPECT_EQ(options.store, (HostPort{"127.0.0.1", 4}));
  EXPECT_EQ(options.budget, std::chrono::milliseconds(14));
  EXPECT_FALSE(options.refuse_when_full);
}

TEST(Options, BothHasNoNodeUnlessAsked) {
  EXPECT_FALSE(std::get<Options>(parse({"--model", "random:"})).node);
  EXPECT_TRUE(std::get<Options>(parse({"--model", "random:", "--role", "decode"})).node);
  EXPECT_TRUE(std::get<Options>(parse({"--model", "random:", "--node", "127.0.0.1:0"})).node);
}

TEST(Options, WrongFlagsAreOneLineAndExitCode2) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"--model"},
      {"--model", "m", "--role", "sideways"},
      {"--model", "m", "--unheard-of"},
      {"--model", "m", "--block-tokens", "0"},
      {"--model", "m", "--block-tokens", "many"},
      {"--model", "m", "--kv-blocks", "-5"},
      {"--model", "m", "--threads", "1000"},
      {"--model", "m", "--listen", "nowhere"},
      {"--model", "m", "--node", "127.0.0.1:99999"},
      {"--model", "m", "--node-http", "127.0.0.1:0"},
      {"--model", "m", "--node", "127.0.0.1:0", "--chunk-tokens", "40"},
      {"--model", "m", "--host-tier", "lots"},
      {"--model", "m", "--host-tier", "5 MB"},
      {"--model", "m", "--store", "nowhere"},
      {"--model", "m", "--node", "127.0.0.1:0", "--channel", "pigeon"},
      {"--model", "m", "--node", "127.0.0.1:0", "--tier-policy", "fifo"},
      {"--model", "m", "--node", "127.0.0.1:0", "--tenant-quota", "half"},
      {"--model", "m", "--transient", "--retain"},
  };
  for (const auto& words : wrong) {
    testing::internal::CaptureStderr();
    const auto parsed = parse(words);
    const std::string said = testing::internal::GetCapturedStderr();
    const std::string shown = words.empty() ? "nothing" : words.back();
    ASSERT_TRUE(std::holds_alternative<int>(parsed)) << shown;
    EXPECT_EQ(std::get<int>(parsed), 2) << shown;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
    EXPECT_EQ(said.rfind("reference_engine: ", 0), 0u) << said;
  }
}

}  // namespace
}  // namespace baton::reference
