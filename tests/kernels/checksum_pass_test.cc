#include "kernels/checksum_pass.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace baton {
namespace {

TEST(ChecksumPassTest, AnyPiecesGiveTheChecksumOfTheWhole) {
  std::mt19937_64 random(1);
  const ChecksumSeed seed = make_seed({.layer = 5, .bytes = 7});
  for (const size_t bytes : {1u, 63u, 1023u, 1024u, 1025u, 5000u, 65536u, 100'001u}) {
    std::vector<std::byte> payload(bytes);
    for (auto& byte : payload) byte = static_cast<std::byte>(random());
    const Checksum whole = checksum(seed, payload.data(), bytes);
    for (const Isa isa : available_isas()) {
      for (const size_t most : {size_t{7}, size_t{1500}, size_t{4096}, bytes}) {
        ChecksumPass pass(seed, bytes, isa);
        for (size_t at = 0; at < bytes;) {
          const size_t piece = std::min(bytes - at, 1 + random() % most);
          const std::byte* next = at + piece < bytes ? payload.data() + at + piece : nullptr;
          pass.add(payload.data() + at, piece, next);
          at += piece;
          ASSERT_EQ(pass.added(), at);
        }
        EXPECT_EQ(pass.finish(), whole) << bytes << " bytes, " << isa_name(isa);
      }
    }
  }
}

}  // namespace
}  // namespace baton
