// One chunk on its way from its slot into an object. It goes straight out of the slot, behind a
// header from a buffer of its own; the object is there whole or not at all.
//
// With If-None-Match: * the service writes for the first one only. Where it does not know that, the
// object is looked for before; two that write at once then both do, and write the same.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "transfer/tiers/s3/object_format.h"
#include "transfer/tiers/s3/operation.h"
#include "transfer/tiers/s3/request.h"

namespace baton::s3 {

class Storing final : public Operation, public RequestBody {
 public:
  // kExists: it is there already. The header is encode_header's of this chunk.
  using Done = std::function<void(const Status&)>;
  Storing(Service& service, Chunk chunk, const Header& header, TimePoint deadline, Done done);

  void give_up(const Status& why) override { finish(why); }

 private:
  void look();
  void put();
  void on_put(Result<S3Answer> answer);
  size_t send(uint64_t offset, std::span<std::byte> into) override;
  void finish(const Status& how);

  Service& service_;
  const Chunk chunk_;
  const Header header_;
  const TimePoint deadline_;
  const std::string url_;
  const uint64_t payload_bytes_;
  Done done_;
  std::unique_ptr<Request> request_;  // reads chunk_'s slot: goes first
};

}  // namespace baton::s3
