#include "transfer/tiers/s3/storing.h"

#include <algorithm>
#include <cstring>

namespace baton::s3 {

Storing::Storing(Service& service, Chunk chunk, const Header& header, TimePoint deadline, Done done)
    : service_(service),
      chunk_(std::move(chunk)),
      header_(header),
      deadline_(deadline),
      url_(service.urls.object(object_name(service.config.prefix, chunk_.origin, chunk_.id))),
      payload_bytes_(chunk_.segment_bytes * chunk_.checksums.size()),
      done_(std::move(done)) {
  service_.conditional() ? put() : look();
}

void Storing::look() {
  request_ = std::make_unique<Request>(
      service_,
      RequestSpec{.method = HttpMethod::kHead,
                  .url = url_,
                  .turn = TurnKind::kBackground,
                  .deadline = deadline_},
      *this, [this](Result<S3Answer> answer) {
        if (!answer.ok()) return finish(answer.status());
        if (answer->ok()) return finish(Status(Code::kExists, "s3: the object is there already"));
        put();
      });
}

void Storing::put() {
  RequestSpec spec{.method = HttpMethod::kPut,
                   .url = url_,
                   .headers = {"Content-Type: application/octet-stream"},
                   .turn = TurnKind::kBackground,
                   .deadline = deadline_,
                   .body_bytes = kHeaderBytes + payload_bytes_};
  if (service_.conditional()) spec.headers.push_back("If-None-Match: *");
  request_ =
      std::make_unique<Request>(service_, std::move(spec), *this,
                                [this](Result<S3Answer> answer) { on_put(std::move(answer)); });
}

void Storing::on_put(Result<S3Answer> answer) {
  if (!answer.ok()) return finish(answer.status());
  if (answer->ok()) {
    service_.metrics.stored_bytes.Increment(static_cast<double>(payload_bytes_));
    return finish(ok_status());
  }
  if (answer->status == 412)
    return finish(Status(Code::kExists, "s3: the object is there already"));
  if ((answer->status == 501 || answer->code == "NotImplemented") && service_.conditional()) {
    service_.not_conditional(to_text(*answer));
    return look();
  }
  finish(Status(Code::kRefused,
                "s3: storing chunk " + chunk_.id.key.to_hex() + ": " + to_text(*answer)));
}

size_t Storing::send(uint64_t offset, std::span<std::byte> into) {
  if (offset < kHeaderBytes) {
    const size_t size = std::min<size_t>(into.size(), kHeaderBytes - offset);
    std::memcpy(into.data(), header_.data() + offset, size);
    return size;
  }
  const uint64_t at = offset - kHeaderBytes;
  const size_t size = std::min<uint64_t>(into.size(), payload_bytes_ - at);
  std::memcpy(into.data(), chunk_.slot.bytes().data() + at, size);
  return size;
}

void Storing::finish(const Status& how) {
  request_.reset();
  const Status status = how;
  const Done done = std::exchange(done_, nullptr);
  done(status);  // this may be gone now
}

}  // namespace baton::s3
