#include "examples/reference_engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "transfer/base/check.h"

namespace baton::reference {
namespace {

struct Candidate {
  float logit;
  uint32_t token;
  // The heap's top is the likeliest; of equals, the smaller id.
  bool operator<(const Candidate& other) const {
    return logit != other.logit ? logit < other.logit : token > other.token;
  }
};

// Uniform in [0, 1): splitmix64 of seed and position.
double uniform(uint64_t seed, uint64_t position) {
  uint64_t z = seed;
  for (const uint64_t salt : {uint64_t{0x9e3779b97f4a7c15}, position}) {
    z += salt;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
  }
  return static_cast<double>(z >> 11) * 0x1p-53;
}

uint32_t greedy(std::span<const float> logits) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

Status out_of_range(const char* field, double value, const char* expected) {
  return Status(Code::kInvalidArgument,
                std::string(field) + ": expected " + expected + ", found " + std::to_string(value));
}

}  // namespace

Status SamplingParams::validate() const {
  if (!(temperature >= 0.0f && temperature <= 2.0f)) {
    return out_of_range("temperature", temperature, "0 to 2");
  }
  if (!(top_p > 0.0f && top_p <= 1.0f)) return out_of_range("top_p", top_p, "more than 0, up to 1");
  return {};
}

uint32_t sample_token(std::span<const float> logits, const SamplingParams& params,
                      uint64_t position) {
  BATON_CHECK(!logits.empty(), "no logits to sample from");
  const uint32_t likeliest = greedy(logits);
  if (params.temperature == 0.0f || params.top_k == 1) return likeliest;
  const double top = logits[likeliest];
  const auto weight = [&](float logit) { return std::exp((logit - top) / params.temperature); };

  // Candidates from the likeliest down, until k or the mass is reached; a heap, because most
  // answers need few of a large vocabulary.
  std::vector<Candidate> heap;
  heap.reserve(logits.size());
  double all = 0.0;
  for (uint32_t i = 0; i < logits.size(); ++i) {
    heap.push_back({logits[i], i});
    all += weight(logits[i]);
  }
  std::make_heap(heap.begin(), heap.end());
  const size_t limit =
      params.top_k == 0 ? heap.size() : std::min<size_t>(params.top_k, heap.size());
  const auto pop = [&] {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate candidate = heap.back();
    heap.pop_back();
    return candidate;
  };
  std::vector<Candidate> kept;
  if (limit < heap.size()) {  // top_k first: top_p is a share of what it leaves
    all = 0.0;
    while (kept.size() < limit) {
      kept.push_back(pop());
      all += weight(kept.back().logit);
    }
    heap = std::exchange(kept, {});
    std::make_heap(heap.begin(), heap.end());
  }
  double mass = 0.0;
  while (!heap.empty() && (params.top_p == 1.0f || mass < params.top_p * all || kept.empty())) {
    kept.push_back(pop());
    mass += weight(kept.back().logit);
  }
  double left = uniform(params.seed, position) * mass;
  for (const Candidate& candidate : kept) {
    left -= weight(candidate.logit);
    if (left < 0.0) return candidate.token;
  }
  return kept.back().token;
}

}  // namespace baton::reference
