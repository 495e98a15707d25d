// A workload trace: the requests of a service in their order, as JSON lines of `timestamp` (ms),
// `input_length`, `output_length` (tokens) and `hash_ids`, one a block of the prompt: equal ids are
// equal blocks after equal prefixes. So the published traces of Mooncake are written.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transfer/base/status.h"

namespace baton::bench {

class WorkloadTrace {
 public:
  struct Request {
    uint64_t first = 0;  // of the trace's blocks
    uint32_t blocks = 0;
    uint32_t tokens = 0;  // of the prompt
  };

  // Of blocks of `block_tokens` tokens, the last of a prompt may have fewer. Errors name the file
  // and the line: kNotFound, kProtocol, kResourceExhausted (more blocks than anybody replays).
  static Result<WorkloadTrace> read(const std::string& path, uint32_t block_tokens);

  const std::vector<Request>& requests() const { return requests_; }
  // A request's blocks, by number: equal ids have equal numbers, from 0 on.
  std::span<const uint32_t> blocks_of(const Request& request) const {
    return {blocks_.data() + request.first, request.blocks};
  }
  uint64_t blocks() const { return blocks_.size(); }
  uint32_t distinct_blocks() const { return distinct_; }
  uint32_t block_tokens() const { return block_tokens_; }

 private:
  std::vector<Request> requests_;
  std::vector<uint32_t> blocks_;
  uint32_t distinct_ = 0;
  uint32_t block_tokens_ = 0;
};

}  // namespace baton::bench
