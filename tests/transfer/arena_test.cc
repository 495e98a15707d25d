#include "transfer/arena.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

std::unique_ptr<Arena> make_arena(const ArenaConfig& config) {
  auto arena = Arena::create(config);
  EXPECT_TRUE(arena.ok()) << arena.status().to_string();
  return std::move(arena).value();
}

UniqueFd duplicate(int fd) { return UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

UniqueFd memfd(size_t bytes, int seals) {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

size_t resident_bytes(int fd) {
  struct stat info;
  EXPECT_EQ(fstat(fd, &info), 0);
  return static_cast<size_t>(info.st_blocks) * 512;
}

TEST(Arena, RoundsUpToWholePagesAndIsZero) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto arena = make_arena({.bytes = 3 * page + 1});
  EXPECT_EQ(arena->bytes(), 4 * page);
  EXPECT_EQ(arena->page_bytes(), page);
  EXPECT_TRUE(std::all_of(arena->data(), arena->data() + arena->bytes(),
                          [](std::byte b) { return b == std::byte{0}; }));
  std::memset(arena->data(), 0xa5, arena->bytes());
  EXPECT_EQ(arena->data()[arena->bytes() - 1], std::byte{0xa5});
}

TEST(Arena, LargeOnesBeginWhereHugePagesCan) {
  const auto arena = make_arena({.bytes = (size_t{5} << 20) + 1, .prefault = false});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(arena->data()) % (size_t{2} << 20), 0u);
  std::memset(arena->data(), 0xa5, arena->bytes());
}

TEST(Arena, PrefaultAllocatesEveryPageAndItsAbsenceNone) {
  const size_t bytes = size_t{4} << 20;
  EXPECT_EQ(resident_bytes(make_arena({.bytes = bytes, .prefault = true})->fd()), bytes);
  EXPECT_EQ(resident_bytes(make_arena({.bytes = bytes, .prefault = false})->fd()), 0u);
}

TEST(Arena, RefusesSizesThatCannotBe) {
  EXPECT_EQ(Arena::create({.bytes = 0}).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Arena::create({.bytes = SIZE_MAX}).status().code(), Code::kInvalidArgument);
  const Status status = Arena::create({.bytes = size_t{1} << 60}).status();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_NE(status.native(), 0);
}

TEST(Arena, IsSealedForGood) {
  const auto arena = make_arena({.bytes = 8192});
  const int fd = arena->fd();
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), kSeals | F_SEAL_SEAL);
  EXPECT_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(ftruncate(fd, 4096), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(fd, 65536), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(pwrite(fd, "x", 1, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

// Whether the machine has hugetlb pages or not, the caller gets an arena and is told its pages.
TEST(Arena, HugePagesOrTheFallback) {
  const auto arena = make_arena({.bytes = (size_t{2} << 20) + 1, .huge_pages = true});
  EXPECT_GE(arena->bytes(), (size_t{2} << 20) + 1);
  EXPECT_EQ(arena->bytes() % static_cast<size_t>(sysconf(_SC_PAGESIZE)), 0u);
  std::memset(arena->data(), 0x5a, arena->bytes());
  const auto peer = PeerArena::map(duplicate(arena->fd()), arena->bytes());
  ASSERT_TRUE(peer.ok()) << peer.status().to_string();
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*peer)->data()) % (size_t{2} << 20), 0u);
  EXPECT_EQ(std::memcmp((*peer)->data(), arena->data(), arena->bytes()), 0);
}

TEST(PeerArena, SeesTheOwnersBytesAndCannotWrite) {
  const auto arena = make_arena({.bytes = 8192});
  auto mapped = PeerArena::map(duplicate(arena->fd()), arena->bytes());
  ASSERT_TRUE(mapped.ok()) << mapped.status().to_string();
  const auto peer = std::move(mapped).value();
  EXPECT_EQ(peer->bytes(), arena->bytes());
  for (size_t i = 0; i < arena->bytes(); ++i) arena->data()[i] = static_cast<std::byte>(i * 7);
  EXPECT_EQ(std::memcmp(peer->data(), arena->data(), arena->bytes()), 0);
  // Not even on purpose: the seal forbids making the mapping writable.
  EXPECT_EQ(mprotect(const_cast<std::byte*>(peer->data()), 4096, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(errno, EACCES);
}

TEST(PeerArena, OutlivesTheOwner) {
  auto arena = make_arena({.bytes = 4096});
  const auto peer = PeerArena::map(duplicate(arena->fd()), 4096);
  ASSERT_TRUE(peer.ok());
  arena->data()[100] = std::byte{42};
  arena.reset();
  EXPECT_EQ((*peer)->data()[100], std::byte{42});
}

TEST(PeerArena, MapsAPartOfAnArena) {
  const auto arena = make_arena({.bytes = 8192});
  const auto peer = PeerArena::map(duplicate(arena->fd()), 100);
  ASSERT_TRUE(peer.ok()) << peer.status().to_string();
  EXPECT_EQ((*peer)->bytes(), 100u);
}

TEST(PeerArena, RefusesWhatLacksASeal) {
  for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE}) {
    const auto peer = PeerArena::map(memfd(4096, kSeals & ~missing), 4096);
    EXPECT_EQ(peer.status().code(), Code::kProtocol) << missing;
    EXPECT_THAT(peer.status().message(), HasSubstr("seals " + std::to_string(kSeals & ~missing)));
  }
  EXPECT_TRUE(PeerArena::map(memfd(4096, kSeals), 4096).ok());
}

TEST(PeerArena, RefusesWhatIsNoMemfd) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd write_end(ends[1]);
  EXPECT_EQ(PeerArena::map(UniqueFd(ends[0]), 4096).status().code(), Code::kProtocol);
  EXPECT_EQ(PeerArena::map(UniqueFd(), 4096).status().code(), Code::kProtocol);
  EXPECT_EQ(PeerArena::map(UniqueFd(open("/dev/zero", O_RDONLY)), 4096).status().code(),
            Code::kProtocol);
}

TEST(PeerArena, RefusesWrongSizes) {
  const auto arena = make_arena({.bytes = 8192});
  const auto larger = PeerArena::map(duplicate(arena->fd()), 8193);
  EXPECT_EQ(larger.status().code(), Code::kProtocol);
  EXPECT_THAT(larger.status().message(), HasSubstr("8193 bytes announced"));
  EXPECT_THAT(larger.status().message(), HasSubstr("8192"));
  EXPECT_EQ(PeerArena::map(duplicate(arena->fd()), SIZE_MAX).status().code(), Code::kProtocol);
  EXPECT_EQ(PeerArena::map(duplicate(arena->fd()), 0).status().code(), Code::kProtocol);
}

}  // namespace
}  // namespace baton
