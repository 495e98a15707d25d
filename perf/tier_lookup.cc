// A long prompt's chunks among a million that the host tier holds: keys are made of the tokens and
// looked up. Against SHA-256 of the tokens alone.
#include <algorithm>
#include <random>

#include "perf/reference_sha256.h"
#include "perf/tier.h"
#include "transfer/arena.h"
#include "transfer/chunk_key.h"
#include "transfer/tiers/host_tier.h"

namespace baton::bench {
namespace {

uint32_t chunks_of(const TierOptions& options) {
  return options.chunks == 0 ? 1'000'000 : options.chunks;
}

constexpr size_t kSlotBytes = 64;  // so that what is found is all that matters
constexpr uint32_t kPromptsATurn = 8;

class Lookups {
 public:
  static Result<std::unique_ptr<Lookups>> create(const TierOptions& options) {
    const uint64_t prompt_chunks =
        (uint64_t{options.tokens} + options.chunk_tokens - 1) / options.chunk_tokens;
    const uint64_t prompts = std::max<uint64_t>(1, chunks_of(options) / prompt_chunks);
    BATON_ASSIGN_OR_RETURN(auto arena,
                           Arena::create({.name = "baton-bench-slots",
                                          .bytes = prompts * prompt_chunks * kSlotBytes}));
    BATON_ASSIGN_OR_RETURN(auto pool, SlotPool::create(std::move(arena), kSlotBytes));
    BATON_ASSIGN_OR_RETURN(Sha256OfChunks sha256, Sha256OfChunks::create());
    std::unique_ptr<Lookups> lookups(new Lookups(options, static_cast<uint32_t>(prompts),
                                                 static_cast<uint32_t>(prompt_chunks),
                                                 std::move(pool), std::move(sha256)));
    BATON_RETURN_IF_ERROR(lookups->fill());
    return lookups;
  }

  uint64_t chunks() const { return uint64_t{prompts_} * prompt_chunks_; }
  uint64_t bytes() const { return uint64_t{kPromptsATurn} * options_.tokens * sizeof(uint32_t); }

  Result<double> ours(bool wrong) {
    next_prompts();
    if (wrong) prompts_now_[0][0] ^= 1;
    const double began = seconds_now();
    for (const auto& tokens : prompts_now_)
      found_ += tier_->leading(key_chain(root_, tokens, options_.chunk_tokens), 0, 0);
    return checked(seconds_now() - began);
  }
  // Without making the keys.
  Result<double> lookup() {
    next_prompts();
    const std::vector<std::vector<ChunkKey>> keys = keys_now();
    const double began = seconds_now();
    for (const auto& prompt : keys) found_ += tier_->leading(prompt, 0, 0);
    return checked(seconds_now() - began);
  }
  // The same, each chunk marked as used, and pinned for a moment.
  Result<double> lookup_and_pin() {
    next_prompts();
    const std::vector<std::vector<ChunkKey>> keys = keys_now();
    const double began = seconds_now();
    for (const auto& prompt : keys) {
      std::vector<HostTier::Pin> pins = tier_->find_leading(prompt, 0, 0);
      found_ += pins.size();
      HostTier::release(pins);
    }
    return checked(seconds_now() - began);
  }
  Result<double> sha256() {
    next_prompts();
    const double began = seconds_now();
    for (const auto& tokens : prompts_now_)
      BATON_RETURN_IF_ERROR(sha256_.hash(tokens, options_.chunk_tokens));
    return seconds_now() - began;
  }

 private:
  Lookups(const TierOptions& options, uint32_t prompts, uint32_t prompt_chunks,
          std::shared_ptr<SlotPool> pool, Sha256OfChunks sha256)
      : options_(options),
        prompts_(prompts),
        prompt_chunks_(prompt_chunks),
        root_(root_key({.model = "bench"}, "", "")),
        pool_(std::move(pool)),
        sha256_(std::move(sha256)),
        tier_(std::make_unique<HostTier>(
            HostTier::Config{.max_bytes = chunks() * kSlotBytes, .max_entries = chunks()},
            metrics_)) {}

  std::vector<uint32_t> tokens_of(uint32_t prompt) const {
    std::vector<uint32_t> tokens(options_.tokens);
    for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 2654435761u ^ prompt * 40503u;
    return tokens;
  }

  // In the order in which many sessions at once would have brought them: mixed.
  Status fill() {
    std::vector<ChunkKey> keys;
    keys.reserve(chunks());
    for (uint32_t p = 0; p < prompts_; ++p) {
      const auto own = key_chain(root_, tokens_of(p), options_.chunk_tokens);
      keys.insert(keys.end(), own.begin(), own.end());
    }
    std::shuffle(keys.begin(), keys.end(), random_);
    for (const ChunkKey& key : keys) {
      std::optional<SlotRef> slot = pool_->allocate();
      if (!slot) return Status(Code::kInternal, "the arena has too few slots");
      BATON_RETURN_IF_ERROR(tier_->insert({.id = {.key = key},
                                           .tokens = options_.chunk_tokens,
                                           .segment_bytes = kSlotBytes,
                                           .checksums = {Checksum{}},
                                           .slot = std::move(*slot)}));
    }
    return ok_status();
  }

  void next_prompts() {
    prompts_now_.clear();
    for (uint32_t i = 0; i < kPromptsATurn; ++i)
      prompts_now_.push_back(tokens_of(random_() % prompts_));
    found_ = 0;
  }
  std::vector<std::vector<ChunkKey>> keys_now() const {
    std::vector<std::vector<ChunkKey>> keys;
    for (const auto& tokens : prompts_now_)
      keys.push_back(key_chain(root_, tokens, options_.chunk_tokens));
    return keys;
  }
  Result<double> checked(double seconds) const {
    const uint64_t expected = uint64_t{kPromptsATurn} * prompt_chunks_;
    if (found_ == expected) return seconds;
    return Status(Code::kChecksum, std::to_string(found_) + " chunks were found, " +
                                       std::to_string(expected) + " are held");
  }

  const TierOptions options_;
  const uint32_t prompts_;
  const uint32_t prompt_chunks_;
  const ChunkKey root_;
  std::mt19937 random_{1};
  Metrics metrics_;
  std::shared_ptr<SlotPool> pool_;
  Sha256OfChunks sha256_;
  std::unique_ptr<HostTier> tier_;
  std::vector<std::vector<uint32_t>> prompts_now_;  // tokens
  uint64_t found_ = 0;
};

}  // namespace

Status measure_host_lookup(Run& run, const TierOptions& options) {
  run.progress.begin("tier host look-up chunks=" + std::to_string(chunks_of(options)));
  BATON_ASSIGN_OR_RETURN(const auto lookups, Lookups::create(options));
  const auto ours = [&, checks = 0u]() mutable {
    return lookups->ours(++checks == run.common.corrupt);
  };
  BATON_ASSIGN_OR_RETURN(const auto series,
                         measure({{"keys and look-up", ours},
                                  {"SHA-256", [&] { return lookups->sha256(); }},
                                  {"look-up", [&] { return lookups->lookup(); }},
                                  {"look-up and pins", [&] { return lookups->lookup_and_pin(); }}},
                                 run.common.samples_or(31), run.progress));
  Line line{.name = "tier",
            .parameters = {{"tier", "host"},
                           {"operation", "look-up"},
                           {"chunks", lookups->chunks()},
                           {"tokens", options.tokens},
                           {"chunk_tokens", options.chunk_tokens}},
            .bytes = lookups->bytes(),
            .reference = "OpenSSL SHA-256 over the same tokens",
            .ours = series[0],
            .against = series[1],
            .blame = "sha256"};
  const auto prompt_us = [](const Series& s, double at) {
    return rounded(quantile(s, at) / kPromptsATurn * 1e6);
  };
  line.also["prompts"] = kPromptsATurn;
  line.also["lookup_us"] = prompt_us(series[2], 0.5);
  line.also["lookup_p95_us"] = prompt_us(series[2], 0.95);
  line.also["lookup_and_pins_us"] = prompt_us(series[3], 0.5);
  run.report.add(line);
  return ok_status();
}

}  // namespace baton::bench
