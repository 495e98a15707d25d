#include "transfer/tiers/s3/looking.h"

#include <utility>

namespace baton::s3 {

Looking::Looking(Service& service, const ChunkOrigin& origin, const std::vector<ChunkId>& ids,
                 TimePoint deadline, Done done)
    : seen_(ids.size()), left_(ids.size()), done_(std::move(done)) {
  for (size_t i = 0; i < ids.size(); ++i) {
    requests_.push_back(std::make_unique<Request>(
        service,
        RequestSpec{.method = HttpMethod::kHead,
                    .url = service.urls.object(object_name(service.config.prefix, origin, ids[i])),
                    .turn = TurnKind::kLookup,
                    .deadline = deadline},
        *this, [this, i](Result<S3Answer> answer) { on_answer(i, std::move(answer)); }));
  }
}

void Looking::on_answer(size_t index, Result<S3Answer> answer) {
  if (answer.ok() && (answer->ok() || answer->status == 404)) {
    seen_[index] = {.known = true,
                    .held = answer->ok(),
                    .bytes = answer->ok() ? payload_bytes(answer->length.value_or(0)) : 0};
  }
  requests_[index].reset();
  if (--left_ == 0) finish();
}

void Looking::finish() {
  requests_.clear();
  const Done done = std::exchange(done_, nullptr);
  done(std::move(seen_));  // this may be gone now
}

}  // namespace baton::s3
