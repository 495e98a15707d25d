#include "tests/transfer/tiers/s3/lab.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "transfer/base/check.h"

namespace baton::testing {
namespace {

constexpr size_t kPieceBytes = 65536;

}  // namespace

Lab& Lab::get() {
  static Lab lab;
  return lab;
}

Lab::Lab() {
  int to[2], from[2];
  BATON_CHECK(::pipe2(to, O_CLOEXEC) == 0 && ::pipe2(from, O_CLOEXEC) == 0, "pipes");
  UniqueFd its_input(to[0]), its_output(from[1]);
  to_.reset(to[1]);
  from_.reset(from[0]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, its_input.get(), 0);
  ::posix_spawn_file_actions_adddup2(&actions, its_output.get(), 1);
  std::string script = BATON_SOURCE_DIR "/tests/transfer/tiers/s3/lab.py";
  std::string words[] = {"setpriv", "--pdeathsig", "TERM", "/usr/bin/python3", script};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const int error =
      ::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), ::environ);
  ::posix_spawn_file_actions_destroy(&actions);
  BATON_CHECK(error == 0, "setpriv cannot be started");
  its_output.reset();  // so that its end is seen
  where_ = next_line();
  if (where_.contains("missing")) missing_ = where_["missing"].dump();
}

Lab::~Lab() {
  to_.reset();  // it ends with its input
  ::waitpid(pid_, nullptr, 0);
}

std::string Lab::gateway() const { return "http://127.0.0.1:" + std::to_string(port("port")); }
std::string Lab::proxy() const { return "http://127.0.0.1:" + std::to_string(port("proxy")); }
std::string Lab::tls_proxy() const {
  return "https://127.0.0.1:" + std::to_string(port("tls_proxy"));
}

Json Lab::call(const char* what, Json arguments) {
  arguments["do"] = what;
  const std::string line = arguments.dump() + "\n";
  BATON_CHECK(::write(to_.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size()),
              "the lab does not listen");
  Json answer = next_line();
  if (answer.contains("error")) ADD_FAILURE() << what << ": " << answer["error"];
  return answer.value("ok", Json());
}

void Lab::rules(Json rules) { call("rules", {{"rules", std::move(rules)}}); }

Json Lab::next_line() {
  size_t end;
  while ((end = read_.find('\n')) == std::string::npos) {
    const size_t before = read_.size();
    read_.resize(before + kPieceBytes);
    const ssize_t got = ::read(from_.get(), read_.data() + before, kPieceBytes);
    read_.resize(before + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    BATON_CHECK(got > 0 || (got < 0 && errno == EINTR), "the lab has ended: see above");
  }
  Json answer = Json::parse(read_.substr(0, end));
  read_.erase(0, end + 1);
  return answer;
}

}  // namespace baton::testing
