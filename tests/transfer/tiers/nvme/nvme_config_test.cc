#include "transfer/tiers/nvme/nvme_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace baton {
namespace {

using ::testing::HasSubstr;

TEST(NvmeDevice, PathAndSize) {
  const auto parsed = [](const char* text) { return NvmeDevice::parse(text).value(); };
  EXPECT_EQ(parsed("/data/kv:200GiB").path, "/data/kv");
  EXPECT_EQ(parsed("/data/kv:200GiB").bytes, 200ull << 30);
  EXPECT_EQ(parsed("/dev/nvme0n1:1TiB").bytes, 1ull << 40);
  EXPECT_EQ(parsed("kv:4KiB").bytes, 4096u);
  EXPECT_EQ(parsed("a:b:7MiB").path, "a:b");
  EXPECT_EQ(parsed("kv:12345").bytes, 12345u);
  for (const char* wrong : {"", "kv", ":1GiB", "kv:", "kv:GiB", "kv:0GiB", "kv:1gb", "kv:-1GiB",
                            "kv:99999999999TiB", "kv:1.5GiB"}) {
    const auto device = NvmeDevice::parse(wrong);
    EXPECT_EQ(device.status().code(), Code::kInvalidArgument) << wrong;
    EXPECT_THAT(device.status().message(), HasSubstr("/data/baton.kv:200GiB"));
  }
}

TEST(NvmeConfig, WhatIsWrongIsNamed) {
  const NvmeConfig good{.devices = {{"a", 1 << 30}}, .slab_bytes = 1 << 20};
  EXPECT_TRUE(validate(good).ok());
  const auto refusal = [&](const std::function<void(NvmeConfig&)>& change) {
    NvmeConfig config = good;
    change(config);
    const Status status = validate(config);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    return status.message();
  };
  EXPECT_THAT(refusal([](auto& config) { config.devices.clear(); }), HasSubstr("no device"));
  EXPECT_THAT(refusal([](auto& config) { config.devices.push_back(config.devices[0]); }),
              HasSubstr("a is named twice"));
  EXPECT_THAT(refusal([](auto& config) { config.slab_bytes = 5000; }),
              HasSubstr("slab_bytes is 5000: expected a multiple of 4096"));
  EXPECT_THAT(refusal([](auto& config) { config.slab_bytes = 0; }), HasSubstr("slab_bytes"));
  EXPECT_THAT(refusal([](auto& config) { config.depth = 0; }),
              HasSubstr("depth is 0: expected 1 to 4096"));
  EXPECT_THAT(refusal([](auto& config) { config.max_reads = 70000; }), HasSubstr("max_reads"));
  EXPECT_THAT(refusal([](auto& config) { config.max_stores = 0; }), HasSubstr("max_stores"));
  EXPECT_THAT(refusal([](auto& config) { config.io_bytes = 1000; }), HasSubstr("io_bytes"));
}

TEST(NvmeConfig, EachLayerOfASlabBeginsAtAWholeBlock) {
  EXPECT_EQ(slab_bytes_for(32, 1 << 20), 32u << 20);
  EXPECT_EQ(slab_bytes_for(3, 5000), 3u * 8192);
}

}  // namespace
}  // namespace baton
