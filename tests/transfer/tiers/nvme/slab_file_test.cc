#include "transfer/tiers/nvme/slab_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>

#include "tests/transfer/tiers/nvme/nvme_fixture.h"

namespace baton::nvme {
namespace {

using ::testing::HasSubstr;

class SlabFileTest : public ::testing::Test {
 protected:
  SlabFileConfig config(uint32_t slabs = 8, uint64_t slab_bytes = 32768) const {
    return {.path = folder_.file("device"),
            .bytes = SlabLayout{slab_bytes, slabs}.bytes(),
            .slab_bytes = slab_bytes,
            .lock_patience = std::chrono::milliseconds(20)};
  }
  std::string refusal(const SlabFileConfig& config) {
    const auto file = SlabFile::open(config);
    EXPECT_EQ(file.status().code(), Code::kRefused) << file.status().to_string();
    EXPECT_THAT(file.status().message(), HasSubstr("/device: "));
    return file.status().message();
  }
  void write(uint64_t offset, const std::string& bytes) {
    const UniqueFd fd(::open(folder_.file("device").c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_EQ(pwrite(fd.get(), bytes.data(), bytes.size(), offset),
              static_cast<ssize_t>(bytes.size()));
  }

  testing::TestFolder folder_;
};

TEST_F(SlabFileTest, FormatsWhatIsNotThereAndOpensItAgain) {
  auto file = SlabFile::open(config());
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  const Superblock made = (*file)->superblock();
  EXPECT_EQ(made.layout, (SlabLayout{32768, 8}));
  struct stat found;
  ASSERT_EQ(fstat((*file)->fd(), &found), 0);
  EXPECT_EQ(static_cast<uint64_t>(found.st_size), made.layout.bytes());
  EXPECT_GE(static_cast<uint64_t>(found.st_blocks) * 512, made.layout.bytes());  // preallocated
  EXPECT_EQ(found.st_mode & 0777, 0600u);  // prompts of others can be told from KV
  file->reset();
  file = SlabFile::open(config());
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ((*file)->superblock().uuid, made.uuid);
}

TEST_F(SlabFileTest, AFormattingThatWasInterruptedBegins) {
  // Allocated, and not yet said to be ours.
  ASSERT_NO_FATAL_FAILURE(write(config().bytes - 1, std::string(1, '\0')));
  EXPECT_TRUE(SlabFile::open(config()).ok());
}

TEST_F(SlabFileTest, OtherOptionsAreRefusedNamingBoth) {
  ASSERT_TRUE(SlabFile::open(config()).ok());
  EXPECT_THAT(refusal(config(8, 65536)), HasSubstr("slab size is 65536 here and 32768"));
  EXPECT_THAT(refusal(config(9)), HasSubstr("number of slabs is 9 here and 8"));
  EXPECT_TRUE(SlabFile::open(config()).ok());
}

TEST_F(SlabFileTest, AnotherFormatIsRefusedAndLeftAsItIs) {
  ASSERT_TRUE(SlabFile::open(config()).ok());
  ASSERT_NO_FATAL_FAILURE(write(8, "\x02"));
  EXPECT_THAT(refusal(config()), HasSubstr("version is 1 here and 2 on the device"));
  ASSERT_NO_FATAL_FAILURE(write(8, "\x01"));
  EXPECT_TRUE(SlabFile::open(config()).ok());
  ASSERT_NO_FATAL_FAILURE(write(100, "\x01"));
  EXPECT_THAT(refusal(config()), HasSubstr("superblock is damaged"));
}

TEST_F(SlabFileTest, SomethingElseIsRefusedAndLeftAsItIs) {
  for (const uint64_t offset : {0u, 5000u, 65536u, (1u << 20) - 7}) {
    std::error_code ignored;
    std::filesystem::remove(folder_.file("device"), ignored);
    ASSERT_NO_FATAL_FAILURE(write(offset, "a diary"));
    ASSERT_NO_FATAL_FAILURE(write(2u << 20, "x"));
    EXPECT_THAT(refusal(config()), HasSubstr("begins with"));
    std::ifstream file(folder_.file("device"));
    file.seekg(offset);
    std::string word(7, ' ');
    file.read(word.data(), 7);
    EXPECT_EQ(word, "a diary");
  }
  std::filesystem::remove(folder_.file("device"));
  ASSERT_NO_FATAL_FAILURE(write(0, "short"));
  EXPECT_THAT(refusal(config()), HasSubstr("5 bytes of something else"));
}

TEST_F(SlabFileTest, AFileThatWasCutIsRefused) {
  ASSERT_TRUE(SlabFile::open(config()).ok());
  std::filesystem::resize_file(folder_.file("device"), config().bytes - 4096);
  EXPECT_THAT(refusal(config()), HasSubstr("its superblock says"));
}

TEST_F(SlabFileTest, OneOpenerAtATime) {
  const auto first = SlabFile::open(config());
  ASSERT_TRUE(first.ok());
  const auto second = SlabFile::open(config());
  EXPECT_EQ(second.status().code(), Code::kUnavailable);
  EXPECT_THAT(second.status().message(), HasSubstr("/device: another process has it open"));
}

TEST_F(SlabFileTest, WhatCannotBeOpenedIsNamed) {
  SlabFileConfig missing = config();
  missing.path = folder_.file("no/such/folder");
  EXPECT_EQ(SlabFile::open(missing).status().code(), Code::kInvalidArgument);
  EXPECT_THAT(SlabFile::open(missing).status().message(),
              HasSubstr("no/such/folder: No such file"));
  SlabFileConfig pipe = config();
  pipe.path = "/dev/null";
  EXPECT_EQ(SlabFile::open(pipe).status().code(), Code::kInvalidArgument);
  SlabFileConfig tiny = config();
  tiny.bytes = 4096;
  EXPECT_THAT(SlabFile::open(tiny).status().message(), HasSubstr("one chunk of 32768 needs"));
}

// What no file system has room for; one that is full: nvme_full_test.cc.
TEST_F(SlabFileTest, NoRoomIsSaidAtTheStartAndNothingStaysAllocated) {
  SlabFileConfig large = config();
  large.slab_bytes = uint64_t{1} << 40;
  large.bytes = uint64_t{1} << 62;
  const auto file = SlabFile::open(large);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), Code::kResourceExhausted) << file.status().to_string();
  EXPECT_THAT(file.status().message(), HasSubstr("/device: preallocate"));
  struct stat left;
  ASSERT_EQ(stat(large.path.c_str(), &left), 0);
  EXPECT_EQ(left.st_blocks, 0);
}

}  // namespace
}  // namespace baton::nvme
