#include "transfer/tcp/staged_buffers.h"

#include <gtest/gtest.h>

namespace baton::tcp {
namespace {

TEST(StagedBuffersTest, LendsWhatTheBoundAllowsAndTellsWhenThereIsRoomAgain) {
  int told = 0;
  StagedBuffers buffers(10'000, [&] { ++told; });
  auto one = buffers.take(4000);
  auto two = buffers.take(6000);
  ASSERT_TRUE(one && two);
  EXPECT_EQ(buffers.take(1), nullptr);
  EXPECT_EQ(told, 0);
  one.reset();
  EXPECT_EQ(told, 1);
  one = buffers.take(3000);
  ASSERT_TRUE(one);
  EXPECT_GE(one->bytes().size(), 3000u);
  two.reset();
  EXPECT_EQ(told, 1);  // nobody had to wait
}

TEST(StagedBuffersTest, OneBufferMayBeLargerThanTheBoundButIsNotKept) {
  StagedBuffers buffers(1000, [] {});
  auto large = buffers.take(5000);
  ASSERT_TRUE(large);
  EXPECT_EQ(buffers.take(10), nullptr);
  large.reset();
  auto small = buffers.take(10);
  ASSERT_TRUE(small);
  EXPECT_EQ(small->bytes().size(), 10u);
}

TEST(StagedBuffersTest, ABufferOutlivesItsPoolAndTellsNobody) {
  std::shared_ptr<StagedBuffers::Buffer> buffer;
  {
    StagedBuffers buffers(100, [] { FAIL() << "nobody is there any more"; });
    buffer = buffers.take(100);
    EXPECT_EQ(buffers.take(100), nullptr);
  }
  buffer->bytes()[99] = std::byte{1};
  buffer.reset();
}

}  // namespace
}  // namespace baton::tcp
