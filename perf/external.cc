#include "perf/external.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "perf/wire.h"
#include "transfer/base/unique_fd.h"

namespace baton::bench {
namespace {

using Words = std::vector<std::string>;

constexpr Duration kToolPatience = std::chrono::seconds(30);
constexpr int kNoSuchProgram = 127;  // its exit code, as the shell's and env's
constexpr int kServers = 3;
constexpr int kTries = 20;  // of a client at one server
constexpr auto kBetweenTries = std::chrono::milliseconds(50);

// A program that runs; ended with this.
class Program {
 public:
  static Result<std::unique_ptr<Program>> start(const Words& words) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return Status::from_errno("pipe", errno);
    std::unique_ptr<Program> program(new Program(UniqueFd(ends[0])));
    const UniqueFd theirs(ends[1]);
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    program->pid_ = ::fork();
    if (program->pid_ < 0) return Status::from_errno("fork", errno);
    if (program->pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(theirs.get(), STDOUT_FILENO);
      ::dup2(theirs.get(), STDERR_FILENO);
      ::execvp(arguments[0], arguments.data());
      ::_exit(kNoSuchProgram);
    }
    return program;
  }
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  // Whether it ends within so long.
  bool ended(Duration wait) const {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    return wait_readable(process.get(), now() + wait).ok();
  }

  // All that it writes until it ends, and its exit code.
  Result<std::pair<std::string, int>> finish() {
    const TimePoint end = now() + kToolPatience;
    std::string text;
    for (;;) {
      BATON_RETURN_IF_ERROR(wait_readable(output_.get(), end));
      char buffer[4096];
      const ssize_t got = ::read(output_.get(), buffer, sizeof buffer);
      if (got < 0) return Status::from_errno("read", errno);
      if (got == 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return std::pair(std::move(text), WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }

 private:
  explicit Program(UniqueFd output) : output_(std::move(output)) {}
  const UniqueFd output_;
  pid_t pid_ = -1;
};

Result<std::string> free_port() {
  BATON_ASSIGN_OR_RETURN(const auto listener, listen_at({"127.0.0.1", 0}));
  return std::to_string(listener.second.port);
}

// The client's words. Its server may not be there yet, or may have ended with a client that did not
// get far: then it is started anew.
Result<std::string> between(const std::string& program, const Words& server_words,
                            const Words& client_words) {
  std::string said;
  for (int i = 0; i < kServers; ++i) {
    BATON_ASSIGN_OR_RETURN(const auto server, Program::start(server_words));
    for (int j = 0; j < kTries && !server->ended(kBetweenTries); ++j) {
      BATON_ASSIGN_OR_RETURN(const auto client, Program::start(client_words));
      BATON_ASSIGN_OR_RETURN(auto result, client->finish());
      if (result.second == 0) return std::move(result.first);
      said = std::move(result.first);
    }
    if (!server->ended(Duration::zero())) continue;
    BATON_ASSIGN_OR_RETURN(const auto result, server->finish());
    if (result.second == kNoSuchProgram)
      return Status(Code::kNotFound, "this measurement needs " + program);
    if (said.empty()) said = result.first;
  }
  return Status(Code::kUnavailable, program + " says: " + said.substr(0, 500));
}

// The figures of the last line that has several, separated by commas.
std::vector<double> last_row(const std::string& text) {
  std::vector<double> last;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::vector<double> row;
    std::istringstream words(line);
    for (std::string word; std::getline(words, word, ',');) {
      char* end = nullptr;
      row.push_back(std::strtod(word.c_str(), &end));
      if (end == word.c_str()) row.clear();
    }
    if (row.size() > 2) last = row;
  }
  return last;
}

}  // namespace

Result<double> iperf3_rate() {
  BATON_ASSIGN_OR_RETURN(const std::string port, free_port());
  BATON_ASSIGN_OR_RETURN(const std::string text,
                         between("iperf3", {"iperf3", "-s", "-1", "-p", port},
                                 {"iperf3", "-c", "127.0.0.1", "-p", port, "-l", "1M", "-t", "1",
                                  "-C", "cubic", "-J"}));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto at = nlohmann::json::json_pointer("/end/sum_received/bits_per_second");
  if (!json.is_object() || !json.contains(at))
    return Status(Code::kUnavailable, "iperf3 says: " + text.substr(0, 500));
  return json.at(at).get<double>() / 8;
}

Result<double> ucx_perftest_rate() {
  BATON_ASSIGN_OR_RETURN(const std::string port, free_port());
  const Words ucx{"env",
                  "UCX_TLS=tcp",
                  "UCX_TCP_TX_SEG_SIZE=64K",
                  "UCX_TCP_RX_SEG_SIZE=128K",
                  "UCX_NET_DEVICES=lo",
                  "ucx_perftest",
                  "-p",
                  port};
  Words client = ucx;
  for (const char* word :
       {"-t", "ucp_am_bw", "-s", "4194304", "-n", "500", "-w", "20", "-e", "-f", "-v", "127.0.0.1"})
    client.push_back(word);
  BATON_ASSIGN_OR_RETURN(const std::string text, between("ucx_perftest", ucx, client));
  const std::vector<double> row = last_row(text);
  // Iterations, three latencies, then the average and the overall MiB a second.
  if (row.size() < 6)
    return Status(Code::kUnavailable, "ucx_perftest says: " + text.substr(0, 500));
  return row[5] * 1024 * 1024;
}

Result<double> fio_seconds(const FioJob& job) {
  const auto option = [](const char* name, const std::string& value) {
    return "--" + std::string(name) + "=" + value;
  };
  BATON_ASSIGN_OR_RETURN(
      const auto fio,
      Program::start({"fio", "--name=reference", "--ioengine=io_uring", "--direct=1", "--thread",
                      "--output-format=json", option("filename", job.path),
                      option("rw", job.write ? "write" : "read"),
                      option("bs", std::to_string(job.piece_bytes)),
                      option("size", std::to_string(job.bytes)),
                      option("iodepth", std::to_string(job.depth))}));
  BATON_ASSIGN_OR_RETURN(const auto result, fio->finish());
  if (result.second == kNoSuchProgram)
    return Status(Code::kNotFound, "this measurement needs fio (apt-get install fio)");
  // What it warns of comes before.
  const size_t begin = result.first.find('{');
  const auto json = begin == std::string::npos
                        ? nlohmann::json()
                        : nlohmann::json::parse(result.first.substr(begin), nullptr, false);
  const nlohmann::json::json_pointer side(job.write ? "/jobs/0/write" : "/jobs/0/read");
  if (result.second != 0 || !json.is_object() || !json.contains(side))
    return Status(Code::kUnavailable, "fio says: " + result.first.substr(0, 500));
  const double bytes = json.at(side).value("io_bytes", 0.0);
  const double rate = json.at(side).value("bw_bytes", 0.0);
  if (bytes != static_cast<double>(job.bytes) || rate <= 0)
    return Status(Code::kUnavailable, "fio says: " + result.first.substr(0, 500));
  return bytes / rate;
}

}  // namespace baton::bench
