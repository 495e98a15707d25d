// Which of some objects are there: a HEAD for each, as many at once as there are connections.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <memory>
#include <vector>

#include "transfer/tiers/s3/object_format.h"
#include "transfer/tiers/s3/operation.h"
#include "transfer/tiers/s3/request.h"

namespace baton::s3 {

class Looking final : public Operation, public RequestBody {
 public:
  struct Seen {
    bool known = false;  // the service said so, in time
    bool held = false;
    uint64_t bytes = 0;  // of payload
  };
  // One a chunk asked for, in that order.
  using Done = std::function<void(std::vector<Seen>)>;
  // At least one chunk.
  Looking(Service& service, const ChunkOrigin& origin, const std::vector<ChunkId>& ids,
          TimePoint deadline, Done done);

  // With what is known by now.
  void give_up(const Status&) override { finish(); }

 private:
  void on_answer(size_t index, Result<S3Answer> answer);
  void finish();

  std::vector<Seen> seen_;
  size_t left_;
  Done done_;
  std::vector<std::unique_ptr<Request>> requests_;
};

}  // namespace baton::s3
