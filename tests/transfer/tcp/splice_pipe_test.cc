#include "transfer/tcp/splice_pipe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <vector>

#include "transfer/base/unique_fd.h"

namespace baton::tcp {
namespace {

// Two connected sockets of the loopback, the first of which does not block.
struct Connected {
  Connected() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener.get(), generic, &size), 0);
    from.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(from.get(), generic, size), 0);
    EXPECT_EQ(::fcntl(from.get(), F_SETFL, O_NONBLOCK), 0);
    to.reset(::accept(listener.get(), nullptr, nullptr));
  }
  std::string receive(size_t bytes) const {
    std::string all(bytes, '\0');
    EXPECT_EQ(::recv(to.get(), all.data(), bytes, MSG_WAITALL), static_cast<ssize_t>(bytes));
    return all;
  }
  UniqueFd from, to;
};

// Whole pages of its own.
struct Pages {
  static constexpr size_t kBytes = 256 << 10;
  Pages()
      : data(static_cast<char*>(
            ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    std::memset(data, 'a', kBytes);
  }
  ~Pages() { ::munmap(data, kBytes); }
  iovec at(size_t offset, size_t bytes) const { return {data + offset, bytes}; }
  char* const data;
};

TEST(SplicePipe, WhatWasLentArrivesInOrder) {
  auto pipe = SplicePipe::create();
  ASSERT_TRUE(pipe.has_value());
  const Connected pair;
  const Pages pages;
  for (size_t i = 0; i < Pages::kBytes; ++i) pages.data[i] = static_cast<char>(i * 7 + i / 4096);
  const std::vector<iovec> list = {pages.at(8192, 5000), pages.at(1, 10), pages.at(20000, 4096)};
  const auto lent = pipe->lend(list);
  ASSERT_TRUE(lent.ok()) << lent.status().to_string();
  ASSERT_EQ(*lent, 5000u + 10 + 4096);
  EXPECT_GT(pipe->bytes(), 0u);
  const auto flushed = pipe->flush(pair.from.get(), false);
  ASSERT_TRUE(flushed.ok() && *flushed) << flushed.status().to_string();
  EXPECT_EQ(pipe->bytes(), 0u);
  const std::string got = pair.receive(*lent);
  EXPECT_EQ(got.substr(0, 5000), std::string(pages.data + 8192, 5000));
  EXPECT_EQ(got.substr(5000, 10), std::string(pages.data + 1, 10));
  EXPECT_EQ(got.substr(5010), std::string(pages.data + 20000, 4096));
}

// That there is no copy, and why what is lent must stay as it is.
TEST(SplicePipe, WhatChangesBeforeItIsReceivedArrivesChanged) {
  auto pipe = SplicePipe::create();
  ASSERT_TRUE(pipe.has_value());
  const Connected pair;
  const Pages pages;
  const iovec whole = pages.at(0, 16384);
  ASSERT_TRUE(pipe->lend({&whole, 1}).ok());
  ASSERT_TRUE(*pipe->flush(pair.from.get(), false));
  pages.data[5000] = 'b';
  EXPECT_EQ(pair.receive(16384)[5000], 'b');
}

TEST(SplicePipe, TakesNoMoreThanItHolds) {
  auto pipe = SplicePipe::create();
  ASSERT_TRUE(pipe.has_value());
  const Connected pair;
  const Pages pages;
  const std::vector<iovec> list(64, pages.at(0, Pages::kBytes));
  const auto lent = pipe->lend(list);
  ASSERT_TRUE(lent.ok());
  EXPECT_GE(*lent, 256u << 10);
  EXPECT_LT(*lent, list.size() * Pages::kBytes);
  ASSERT_TRUE(pipe->flush(pair.from.get(), false).ok());
}

TEST(SplicePipe, AFullSocketTakesTheRestLater) {
  auto pipe = SplicePipe::create();
  ASSERT_TRUE(pipe.has_value());
  const Connected pair;
  const Pages pages;
  const iovec whole = pages.at(0, Pages::kBytes);
  size_t lent = 0;
  while (true) {
    ASSERT_LT(lent, 1u << 30) << "the socket is never full";
    lent += *pipe->lend({&whole, 1});
    const auto flushed = pipe->flush(pair.from.get(), true);
    ASSERT_TRUE(flushed.ok()) << flushed.status().to_string();
    if (!*flushed) break;
  }
  EXPECT_GT(pipe->bytes(), 0u);
  size_t received = 0;
  std::vector<char> buffer(1 << 20);
  while (received < lent) {
    ASSERT_TRUE(pipe->flush(pair.from.get(), false).ok());
    const ssize_t got = ::recv(pair.to.get(), buffer.data(), buffer.size(), 0);
    ASSERT_GT(got, 0);
    received += static_cast<size_t>(got);
  }
  EXPECT_EQ(received, lent);
  EXPECT_EQ(pipe->bytes(), 0u);
}

TEST(SplicePipe, MemoryThatCannotBeLentIsRefusedAndNothingElseHappens) {
  auto pipe = SplicePipe::create();
  ASSERT_TRUE(pipe.has_value());
  void* const none = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(none, MAP_FAILED);
  const iovec list{none, 4096};
  EXPECT_FALSE(pipe->lend({&list, 1}).ok());
  EXPECT_EQ(pipe->bytes(), 0u);
  ::munmap(none, 4096);
}

// The thread's SIGPIPE is blocked: it would end the process.
TEST(SplicePipe, AConnectionThatIsGoneIsAnErrorNotASignal) {
  auto pipe = SplicePipe::create();
  ASSERT_TRUE(pipe.has_value());
  Connected pair;
  const Pages pages;
  const iovec whole = pages.at(0, 4096);
  ASSERT_EQ(::shutdown(pair.from.get(), SHUT_WR), 0);
  ASSERT_TRUE(pipe->lend({&whole, 1}).ok());
  const auto flushed = pipe->flush(pair.from.get(), false);
  ASSERT_FALSE(flushed.ok());
  EXPECT_EQ(flushed.status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton::tcp
