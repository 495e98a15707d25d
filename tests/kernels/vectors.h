// Checksum vectors, computed from the definition in checksum.h by a program of their own. What is
// stored or sent by one build must verify in every other: these numbers never change.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/checksum.h"

namespace baton::vectors {

struct Vector {
  uint64_t bytes;
  uint64_t seed_a, seed_b;
  uint64_t checksum;
};

inline constexpr Vector kVectors[] = {
    {0, 0x368e5ea613c2db7d, 0x396c2db230e36b6a, 0x42d4206512f457d3},
    {1, 0xd7a4e551e656e779, 0x8318618295d5ec05, 0x13752951efe8396e},
    {7, 0x060b6d158c326a27, 0x0ae5f09388b57ffc, 0x27f958932dc228e0},
    {63, 0xaa31729bd518e3e3, 0x1c54eddfa57ee66e, 0xaf31e25bf25bc430},
    {64, 0xba89b1998cfad52b, 0xb13827618da168b8, 0xbdf3341fee0224e7},
    {65, 0x78d41bcfc69b9547, 0x95505a4fdcd48d12, 0x6ee41d871e9d6275},
    {1000, 0xec231b70c354e10b, 0xb999f1dee862426e, 0x35d0611574f3327b},
    {1023, 0x884f9a743373b531, 0x8a285a0293e51445, 0x5caf8f4397352fd5},
    {1024, 0x69a5065185dc254b, 0x665f101a8a4da4c0, 0x577b72538ff1f198},
    {1025, 0xacf711e79075d4d2, 0x17e61afa07d329b3, 0x44797ea172141ed0},
    {2048, 0x5e0c06f4c0998b3b, 0x90a93d475eab0fd6, 0xecb0377f7b107ce4},
    {5000, 0x6084e1020586a513, 0xf405debb661cc5a7, 0xbc2db8d512bfe482},
    {65536, 0x89d4bda0af9697bc, 0x55f4a90f5d85991f, 0xd92e39c679a29efb},
    {100003, 0x27417df052bcf438, 0x5d215d8d0c2fcbdf, 0x05a80b5048f4a051},
};

// Key 1, 2, … 32, layer 3, KV group 1, head group 2.
inline SegmentIdentity identity(uint64_t bytes) {
  SegmentIdentity identity;
  for (size_t i = 0; i < identity.key.size(); ++i) identity.key[i] = static_cast<uint8_t>(i + 1);
  identity.layer = 3;
  identity.kv_group = 1;
  identity.head_group = 2;
  identity.bytes = bytes;
  return identity;
}

// Byte i is i * 131 + (i / 256) * 17 + 7.
inline std::vector<std::byte> payload(uint64_t bytes) {
  std::vector<std::byte> payload(bytes);
  for (uint64_t i = 0; i < bytes; ++i) {
    payload[i] = static_cast<std::byte>(i * 131 + (i >> 8) * 17 + 7);
  }
  return payload;
}

}  // namespace baton::vectors
