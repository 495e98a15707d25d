#include "perf/workload_trace.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

namespace baton::bench {
namespace {

using nlohmann::json;

constexpr uint64_t kMostBlocks = 1u << 27;
constexpr uint64_t kMostTokens = 1u << 30;  // of a prompt or an answer
constexpr size_t kMostShown = 40;

std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= kMostShown ? text : text.substr(0, kMostShown) + "…";
}

// What is wrong with a line; empty: nothing.
std::string check_number(const json& line, const char* name, uint64_t low, uint64_t high) {
  const auto found = line.find(name);
  if (found == line.end()) return std::string(name) + " is missing";
  const bool whole = found->is_number_unsigned();
  if (whole && found->get<uint64_t>() >= low && found->get<uint64_t>() <= high) return "";
  return std::string(name) + " is " + shown(*found) + ": expected a whole number from " +
         std::to_string(low) + " to " + std::to_string(high);
}

std::string check(const json& line, uint32_t block_tokens) {
  if (!line.is_object()) return "expected a JSON object, not " + shown(line);
  for (const auto& [name, low, high] : {std::tuple{"timestamp", uint64_t{0}, uint64_t{1} << 53},
                                        std::tuple{"input_length", uint64_t{1}, kMostTokens},
                                        std::tuple{"output_length", uint64_t{0}, kMostTokens}})
    if (std::string wrong = check_number(line, name, low, high); !wrong.empty()) return wrong;
  const auto ids = line.find("hash_ids");
  if (ids == line.end()) return "hash_ids is missing";
  if (!ids->is_array()) return "hash_ids is " + shown(*ids) + ": expected an array";
  for (size_t i = 0; i < ids->size(); ++i)
    if (!(*ids)[i].is_number_unsigned())
      return "hash_ids[" + std::to_string(i) + "] is " + shown((*ids)[i]) +
             ": expected a whole number from 0 on";
  const uint64_t tokens = line["input_length"].get<uint64_t>();
  const uint64_t blocks = (tokens + block_tokens - 1) / block_tokens;
  if (ids->size() != blocks)
    return "hash_ids has " + std::to_string(ids->size()) + " blocks: expected " +
           std::to_string(blocks) + " of " + std::to_string(block_tokens) +
           " tokens for an input_length of " + std::to_string(tokens);
  return "";
}

}  // namespace

Result<WorkloadTrace> WorkloadTrace::read(const std::string& path, uint32_t block_tokens) {
  errno = 0;
  std::ifstream file(path);
  if (!file) return Status(Code::kNotFound, path + ": " + std::strerror(errno));
  WorkloadTrace trace;
  trace.block_tokens_ = block_tokens;
  std::unordered_map<uint64_t, uint32_t> numbers;
  uint64_t line_number = 0;
  for (std::string text; std::getline(file, text);) {
    const std::string where = path + ":" + std::to_string(++line_number) + ": ";
    const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (line.is_discarded()) return Status(Code::kProtocol, where + "no JSON");
    if (const std::string wrong = check(line, block_tokens); !wrong.empty())
      return Status(Code::kProtocol, where + wrong);
    const json& ids = line["hash_ids"];
    if (trace.blocks_.size() + ids.size() > kMostBlocks)
      return Status(Code::kResourceExhausted,
                    where + "more than " + std::to_string(kMostBlocks) + " blocks in all");
    trace.requests_.push_back({trace.blocks_.size(), static_cast<uint32_t>(ids.size()),
                               line["input_length"].get<uint32_t>()});
    for (const json& id : ids) {
      const auto [at, first] = numbers.try_emplace(id.get<uint64_t>(), trace.distinct_);
      if (first) ++trace.distinct_;
      trace.blocks_.push_back(at->second);
    }
  }
  if (file.bad()) return Status(Code::kInternal, path + ": " + std::strerror(errno));
  if (trace.requests_.empty()) return Status(Code::kProtocol, path + ": there is no request in it");
  return trace;
}

}  // namespace baton::bench
