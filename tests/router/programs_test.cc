// The programs themselves, as processes: exit codes, what they print, signals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>

#include "tests/fakes/raw_socket.h"

namespace baton {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Ended {
  int code = -1;
  std::string output;  // stdout and stderr
};

Ended run(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  Ended ended;
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) {
    ended.output.append(buffer, n);
  }
  const int status = ::pclose(pipe);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

long lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(BatonProgram, RunsWhatLiesBesideIt) {
  const Ended alone = run(BATON_PROGRAM);
  EXPECT_EQ(alone.code, 0);
  EXPECT_THAT(alone.output, HasSubstr("\n  ctl\n"));
  EXPECT_THAT(alone.output, HasSubstr("\n  router\n"));
  const Ended help = run(BATON_PROGRAM " router --help");
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.output, HasSubstr("--prefill"));
  const Ended unknown = run(BATON_PROGRAM " walk");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_EQ(lines(unknown.output), 1) << unknown.output;
  EXPECT_THAT(unknown.output, HasSubstr("'walk'"));
}

TEST(BatonCtl, WrongFlagsAndAbsentServers) {
  for (const char* flags : {"", " walk", " health", " health http://", " handoffs 1:2:3"}) {
    const Ended wrong = run(std::string(BATON_PROGRAM) + " ctl" + flags);
    EXPECT_EQ(wrong.code, 2) << flags;
    EXPECT_EQ(lines(wrong.output), 1) << wrong.output;
  }
  EXPECT_THAT(run(BATON_PROGRAM " ctl walk").output, HasSubstr("'walk'"));
  EXPECT_THAT(run(BATON_PROGRAM " ctl --walk").output, HasSubstr("'--walk'"));
  const Ended absent = run(BATON_PROGRAM " ctl health 127.0.0.1:1");
  EXPECT_EQ(absent.code, 1);
  EXPECT_THAT(absent.output, HasSubstr("cannot connect to 127.0.0.1:1"));
}

TEST(BatonRouter, SaysWhereItListensAndEndsOnSigterm) {
  int out[2];
  ASSERT_EQ(::pipe(out), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::execl(BATON_ROUTER, "baton-router", "--listen", "127.0.0.1:0", "--prefill",
            "http://127.0.0.1:1=h:1", "--decode", "http://127.0.0.1:2=h:2",
            static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(out[1]);
  std::string said;
  for (char c = 0; said.find('\n') == said.npos && ::read(out[0], &c, 1) == 1;) said += c;
  ASSERT_THAT(said, StartsWith("READY {\"listen\": \"127.0.0.1:"));
  const auto address = HostPort::parse(said.substr(18, said.rfind('"') - 18));
  ASSERT_TRUE(address.ok()) << said;
  test::RawSocket socket(*address);
  socket.send("GET /metrics HTTP/1.1\r\nHost: r\r\n\r\n");
  EXPECT_THAT(socket.read_response(), HasSubstr("baton_router_requests_in_flight 0"));
  const Ended healthless = run(BATON_PROGRAM " ctl metrics " + address->to_string());
  EXPECT_THAT(healthless.output, HasSubstr("baton_router_retries_total"));
  ::kill(child, SIGTERM);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ::close(out[0]);
}

TEST(BatonRouter, TakenPortIsOneClearError) {
  const Ended ended = run(std::string(BATON_ROUTER) +
                          " --listen 192.0.2.1:1 --insecure --prefill http://127.0.0.1:1=h:1"
                          " --decode http://127.0.0.1:2=h:2");
  EXPECT_EQ(ended.code, 1);
  EXPECT_THAT(ended.output, HasSubstr("192.0.2.1:1: cannot listen"));
}

}  // namespace
}  // namespace baton
