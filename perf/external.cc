#include "perf/external.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "perf/program.h"
#include "perf/wire.h"

namespace baton::bench {
namespace {

using Words = std::vector<std::string>;

constexpr int kServers = 3;
constexpr int kTries = 20;  // of a client at one server
constexpr auto kBetweenTries = std::chrono::milliseconds(50);

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
    if (result.second == Program::kNoSuchProgram)
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
  const char* const rw = job.io == FioJob::Io::kRead    ? "read"
                         : job.io == FioJob::Io::kWrite ? "write"
                                                        : "rw";
  Words words = {"fio",
                 "--name=reference",
                 "--ioengine=io_uring",
                 "--direct=1",
                 "--thread",
                 "--output-format=json",
                 option("filename", job.path),
                 option("rw", rw),
                 option("bs", std::to_string(job.piece_bytes)),
                 option("size", std::to_string(job.bytes)),
                 option("iodepth", std::to_string(job.depth))};
  if (job.fixed_buffers) words.insert(words.end(), {"--fixedbufs", "--registerfiles"});
  BATON_ASSIGN_OR_RETURN(const auto fio, Program::start(words));
  BATON_ASSIGN_OR_RETURN(const auto result, fio->finish());
  if (result.second == Program::kNoSuchProgram)
    return Status(Code::kNotFound, "this measurement needs fio (apt-get install fio)");
  // What it warns of comes before.
  const size_t begin = result.first.find('{');
  const auto json = begin == std::string::npos
                        ? nlohmann::json()
                        : nlohmann::json::parse(result.first.substr(begin), nullptr, false);
  const nlohmann::json::json_pointer one("/jobs/0");
  double bytes = 0, seconds = 0;
  if (result.second == 0 && json.is_object() && json.contains(one)) {
    for (const char* side : {"read", "write"}) {
      const auto& said = json.at(one).value(side, nlohmann::json::object());
      const double rate = said.value("bw_bytes", 0.0);
      bytes += said.value("io_bytes", 0.0);
      if (rate > 0) seconds = std::max(seconds, said.value("io_bytes", 0.0) / rate);
    }
  }
  if (bytes != static_cast<double>(job.bytes) || seconds <= 0)
    return Status(Code::kUnavailable, "fio says: " + result.first.substr(0, 500));
  return seconds;
}

}  // namespace baton::bench
