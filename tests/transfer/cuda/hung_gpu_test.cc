// A GPU that hangs while its process is to end: what it may still write to is never given back, and
// the process ends all the same.
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <vector>

#include "tests/connectors/two_nodes.h"
#include "tests/fakes/fake_cuda.h"
#include "tests/gpu/gpu_fixture.h"
#include "transfer/base/log.h"
#include "transfer/cuda/cuda_copier.h"

namespace baton::gpu {
namespace {

using fakes::fake_cuda::hold;
using ::testing::ExitedWithCode;

constexpr const char* kSaid = "the GPU hangs, and this process is to end.*exit_code=70";

class HungGpuDeathTest : public fakes::TwoNodes {
 protected:
  // What runs in the process that ends begins in a new one: there are threads here.
  HungGpuDeathTest() { ::testing::GTEST_FLAG(death_test_style) = "threadsafe"; }

  static cuda::CudaCopierConfig config(size_t segment_bytes, uint32_t segment_blocks) {
    return {.segment_bytes = segment_bytes,
            .segment_blocks = segment_blocks,
            .late_after = std::chrono::milliseconds(100),
            .hung_after = std::chrono::milliseconds(300)};
  }

  static void destroy_a_copier() {
    init_logging("test");
    constexpr size_t kBlock = 4096;
    KvLayout layout;
    layout.block_tokens = 1;
    layout.block_stride = kBlock;
    layout.opaque_block_bytes = kBlock;
    std::vector<std::byte> block(kBlock), payload(kBlock);
    const uint32_t first = 0;
    const Mirror mirror(block.data(), block.size());
    boost::asio::io_context io;
    auto copier = cuda::make_copier(io, config(kBlock, 1));
    if (!copier.ok()) return;
    hold();
    (*copier)->gather({mirror.device(), layout, &first, 1}, PayloadOrder::kOpaque, {1, 2},
                      payload.data(), [](const Result<Checksum>&) {});
    copier->reset();
  }

  // A gather is under way when the node is to go.
  void stop_a_node() {
    init_logging("test");
    std::unique_ptr<Mirror> gpu;
    tune_a = [&](NodeConfig& node) {
      std::byte* const host = node.kv.layer_base[0];
      gpu = std::make_unique<Mirror>(host, a_kv->block_bytes() * a_shape.blocks * a_shape.layers);
      for (std::byte*& base : node.kv.layer_base) base = gpu->on_device(base);
      node.kv.cuda_device = 0;
      const size_t bytes = segment_bytes(node.kv.layout, node.chunk_tokens);
      const uint32_t blocks = blocks_for(node.kv.layout, node.chunk_tokens);
      node.seams.device_copier = [bytes, blocks](boost::asio::io_context& io) {
        auto made = cuda::make_copier(io, config(bytes, blocks));
        return made.ok() ? std::move(made).value() : nullptr;
      };
    };
    start();
    if (HasFatalFailure()) return;
    hold();
    auto p = prefiller();
    if (!p.create({HandoffId::random(), 1}, {}, 100, 5).ok()) return;
    p.compute();
    p.session.reset();
    a_node.reset();
  }
};

TEST_F(HungGpuDeathTest, ACopierThatGoesEndsTheProcess) {
  EXPECT_EXIT(destroy_a_copier(), ExitedWithCode(kHungDeviceExit), kSaid);
}

TEST_F(HungGpuDeathTest, ANodeThatGoesEndsTheProcess) {
  EXPECT_EXIT(stop_a_node(), ExitedWithCode(kHungDeviceExit), kSaid);
}

}  // namespace
}  // namespace baton::gpu
