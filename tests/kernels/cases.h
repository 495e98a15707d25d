// The table of the kernel tests: random layouts, shuffled block lists, odd sizes, in memory that is
// poison around and between the tokens. Host code, device bodies and launches all run it.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "kernels/launch_batch.h"

namespace baton::cases {

using Rng = std::mt19937_64;

inline uint32_t pick(Rng& rng, uint32_t low, uint32_t high) {
  return std::uniform_int_distribution<uint32_t>(low, high)(rng);
}

template <typename T>
T choose(Rng& rng, std::initializer_list<T> values) {
  return values.begin()[pick(rng, 0, values.size() - 1)];
}

// What two layouts must share for KV bytes to fit both.
struct Geometry {
  uint32_t planes, heads, head_bytes, tokens;
};

// A layout and how much memory its blocks need.
struct Shape {
  KvLayout layout;
  uint32_t block_count = 0;  // block ids are below
  uint64_t memory_bytes = 0;
};

Geometry random_geometry(Rng& rng);
// Dimensions (block among them) nested in any order, with or without gaps.
Shape random_shape(Rng& rng, const Geometry& geometry);
// Opaque blocks, with or without runs that tell the tokens.
Shape random_opaque_shape(Rng& rng, uint32_t tokens);

// Blocks of one layer in memory of exactly their size, filled with random bytes, with a shuffled
// block list for `tokens` tokens.
class Memory {
 public:
  Memory(Rng& rng, const Shape& shape, uint32_t tokens);

  KvSegment segment();
  std::vector<std::byte>& bytes() { return bytes_; }
  const std::vector<uint32_t>& blocks() const { return blocks_; }

 private:
  Shape shape_;
  uint32_t tokens_;
  uint32_t misaligned_;  // the base lies so many bytes into bytes_
  std::vector<uint32_t> blocks_;
  std::vector<std::byte> bytes_;
};

std::vector<std::byte> random_bytes(Rng& rng, size_t size);

// Random segments for one launch, each with memory and payload of its own.
struct Batch {
  std::vector<Memory> memories;
  std::vector<std::vector<std::byte>> payloads;  // the payload is the end of it
  std::vector<LaunchSegment> segments;
};

Batch random_batch(Rng& rng, uint32_t most);

// For messages of failed tests.
std::string describe(const KvSegment& segment);

}  // namespace baton::cases
