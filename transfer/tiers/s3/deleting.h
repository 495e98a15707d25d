// Objects that go: a DELETE for each, a few at once. One that is not there is no error.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transfer/tiers/s3/operation.h"
#include "transfer/tiers/s3/request.h"

namespace baton::s3 {

class Deleting final : public Operation, public RequestBody {
 public:
  // The first error there was; all are tried. At least one name.
  using Done = std::function<void(const Status&)>;
  Deleting(Service& service, std::vector<std::string> names, Done done);

  void give_up(const Status& why) override;

 private:
  void next(size_t lane);
  void finish();

  Service& service_;
  const std::vector<std::string> names_;
  size_t begun_ = 0;
  size_t ended_ = 0;
  Status status_;
  Done done_;
  std::vector<std::unique_ptr<Request>> lanes_;
};

}  // namespace baton::s3
