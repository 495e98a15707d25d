// How fast are chunk keys made? Against OpenSSL's SHA-256 over the same tokens.
#include <openssl/evp.h>

#include <numeric>

#include "perf/bench.h"
#include "perf/reference_sha256.h"
#include "transfer/chunk_key.h"

namespace baton::bench {
namespace {

struct Options {
  std::vector<uint32_t> tokens{1024, 16384, 131072};
  uint32_t chunk_tokens = 256;
};

// A prompt takes microseconds: so many of them are one sample.
constexpr uint64_t kSampleBytes = 16u << 20;

struct Case {
  std::vector<uint32_t> tokens;
  uint32_t chunk_tokens;
  uint32_t prompts;
  ChunkKey root;
};

Result<double> reference(const Case& c, Sha256OfChunks& sha256) {
  const double began = seconds_now();
  for (uint32_t p = 0; p < c.prompts; ++p)
    BATON_RETURN_IF_ERROR(sha256.hash(c.tokens, c.chunk_tokens));
  return seconds_now() - began;
}

Result<double> ours(const Case& c, const std::vector<ChunkKey>& expected) {
  std::vector<ChunkKey> keys;
  const double began = seconds_now();
  for (uint32_t p = 0; p < c.prompts; ++p) keys = key_chain(c.root, c.tokens, c.chunk_tokens);
  const double seconds = seconds_now() - began;
  if (keys != expected) return Status(Code::kChecksum, "the keys are not SHA-256's");
  return seconds;
}

// The chain as it is defined, by OpenSSL's one-shot function.
std::vector<ChunkKey> expected_keys(const Case& c) {
  std::vector<ChunkKey> keys;
  ChunkKey previous = c.root;
  for (size_t at = 0; at < c.tokens.size(); at += c.chunk_tokens) {
    const size_t count = std::min<size_t>(c.chunk_tokens, c.tokens.size() - at);
    std::string text(reinterpret_cast<const char*>(previous.bytes.data()), previous.bytes.size());
    text.append(reinterpret_cast<const char*>(c.tokens.data() + at), count * sizeof(uint32_t));
    unsigned length = 0;
    EVP_Digest(text.data(), text.size(), previous.bytes.data(), &length, EVP_sha256(), nullptr);
    keys.push_back(previous);
  }
  return keys;
}

Status answer(const Options& options, Run& run) {
  for (const uint32_t tokens : options.tokens) {
    run.progress.begin("keys tokens=" + std::to_string(tokens));
    Case c{.tokens = std::vector<uint32_t>(tokens),
           .chunk_tokens = options.chunk_tokens,
           .prompts = static_cast<uint32_t>(
               std::max<uint64_t>(1, kSampleBytes / (uint64_t{tokens} * sizeof(uint32_t)))),
           .root = root_key({.model = "bench"}, "", "")};
    std::iota(c.tokens.begin(), c.tokens.end(), 1u);
    std::vector<ChunkKey> expected = expected_keys(c);
    if (run.common.corrupt != 0) expected.front().bytes[0] ^= 1;
    BATON_ASSIGN_OR_RETURN(Sha256OfChunks sha256, Sha256OfChunks::create());
    BATON_ASSIGN_OR_RETURN(const auto series,
                           measure({{"keys", [&] { return ours(c, expected); }},
                                    {"SHA-256", [&] { return reference(c, sha256); }}},
                                   run.common.samples_or(9), run.progress));
    Line line{.name = "keys",
              .parameters = {{"tokens", tokens}, {"chunk_tokens", c.chunk_tokens}},
              .bytes = uint64_t{c.prompts} * tokens * sizeof(uint32_t),
              .reference = "OpenSSL SHA-256 over the same tokens",
              .ours = series[0],
              .against = series[1],
              .blame = "sha256"};
    line.also["prompts"] = c.prompts;
    line.also["prompt_us"] = rounded(median(line.ours) / c.prompts * 1e6);
    run.report.add(line);
  }
  return ok_status();
}

}  // namespace

Question add_keys(const Command& app) {
  auto options = std::make_shared<Options>();
  Command command = app.add_command("keys", "how fast are chunk keys made of tokens");
  command.add_option("--tokens", options->tokens, "of a prompt (1024,16384,131072)")
      .delimiter(',')
      .range(1u, 1u << 24);
  command.add_option("--chunk-tokens", options->chunk_tokens, "tokens of a chunk (256)")
      .range(1u, 1u << 20);
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
