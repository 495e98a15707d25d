#include "transfer/tiers/s3/deleting.h"

#include <algorithm>
#include <utility>

namespace baton::s3 {
namespace {

constexpr size_t kDeletesAtOnce = 16;

}  // namespace

Deleting::Deleting(Service& service, std::vector<std::string> names, Done done)
    : service_(service),
      names_(std::move(names)),
      done_(std::move(done)),
      lanes_(std::min(kDeletesAtOnce, names_.size())) {
  for (size_t lane = 0; lane < lanes_.size(); ++lane) next(lane);
}

void Deleting::next(size_t lane) {
  const std::string& name = names_[begun_++];
  lanes_[lane] = std::make_unique<Request>(
      service_,
      RequestSpec{.method = HttpMethod::kDelete,
                  .url = service_.urls.object(name),
                  .deadline = now() + service_.config.own_deadline},
      *this, [this, lane](Result<S3Answer> answer) {
        if (!answer.ok()) {
          if (status_.ok()) status_ = answer.status();
        } else if (!answer->ok() && answer->status != 404 && status_.ok()) {
          status_ = Status(Code::kRefused, "s3: erasing: " + to_text(*answer));
        }
        ++ended_;
        if (ended_ == names_.size()) return finish();
        if (begun_ < names_.size()) next(lane);
      });
}

void Deleting::give_up(const Status& why) {
  if (status_.ok()) status_ = why;
  finish();
}

void Deleting::finish() {
  lanes_.clear();
  const Status status = status_;
  const Done done = std::exchange(done_, nullptr);
  done(status);  // this may be gone now
}

}  // namespace baton::s3
