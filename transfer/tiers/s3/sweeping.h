// All chunks that a filter lets pass, counted out of listings and erased, page by page. What lies
// under the prefix and has no name of ours is left alone.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <memory>
#include <string>

#include "transfer/tiers/s3/deleting.h"
#include "transfer/tiers/s3/object_format.h"
#include "transfer/tiers/s3/operation.h"
#include "transfer/tiers/s3/request.h"
#include "transfer/tiers/s3/s3_xml.h"
#include "transfer/tiers/tier.h"

namespace baton::s3 {

class Sweeping final : public Operation, public RequestBody {
 public:
  using Done = std::function<void(Result<ChunkCount>)>;
  Sweeping(Service& service, const ChunkFilter& filter, bool dry_run, Done done);

  // Whether this chunk is about to go.
  bool erases(const ChunkOrigin& origin) const { return !dry_run_ && matches(filter_, origin); }
  void give_up(const Status& why) override { finish(why); }

 private:
  void list(const std::string& token);
  void on_page(Result<S3Answer> answer);
  bool received(uint64_t offset, std::span<const std::byte> bytes) override;
  void go_on(const std::string& token);
  void finish(Result<ChunkCount> result);

  Service& service_;
  const ChunkFilter filter_;
  const bool dry_run_;
  Done done_;
  ChunkCount count_;
  std::string text_;  // of the page
  std::unique_ptr<Request> request_;
  std::unique_ptr<Deleting> deleting_;
};

}  // namespace baton::s3
