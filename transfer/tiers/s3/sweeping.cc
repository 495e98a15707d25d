#include "transfer/tiers/s3/sweeping.h"

#include <utility>

namespace baton::s3 {
namespace {

// A page has 1,000 names of 1,024 bytes at most, and what stands beside them.
constexpr size_t kMaxPageBytes = 8u << 20;

}  // namespace

Sweeping::Sweeping(Service& service, const ChunkFilter& filter, bool dry_run, Done done)
    : service_(service), filter_(filter), dry_run_(dry_run), done_(std::move(done)) {
  list("");
}

void Sweeping::list(const std::string& token) {
  request_ = std::make_unique<Request>(
      service_,
      RequestSpec{
          .method = HttpMethod::kGet,
          .url = service_.urls.listing(listing_prefix(service_.config.prefix, filter_), token),
          .deadline = now() + service_.config.own_deadline},
      *this, [this](Result<S3Answer> answer) { on_page(std::move(answer)); });
}

bool Sweeping::received(uint64_t offset, std::span<const std::byte> bytes) {
  if (offset > text_.size() || offset + bytes.size() > kMaxPageBytes) return false;
  text_.resize(offset);  // a new try begins anew
  text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return true;
}

void Sweeping::on_page(Result<S3Answer> answer) {
  if (!answer.ok()) return finish(answer.status());
  if (!answer->ok())
    return finish(Status(Code::kRefused, "s3: listing the bucket: " + to_text(*answer)));
  const auto page = parse_listing(std::exchange(text_, {}));
  if (!page.ok()) return finish(page.status());
  std::vector<std::string> names;
  ChunkCount count;
  for (const ListedObject& object : page->objects) {
    const auto name = parse_object_name(service_.config.prefix, object.name);
    if (!name || !matches(filter_, name->origin)) continue;
    ++count.chunks;
    count.bytes += payload_bytes(object.bytes);
    names.push_back(object.name);
  }
  const auto erased = [this, count, next = page->next](const Status& status) {
    if (!status.ok()) return finish(status);
    count_.chunks += count.chunks;
    count_.bytes += count.bytes;
    go_on(next);
  };
  if (dry_run_ || names.empty()) return erased(ok_status());
  deleting_ = std::make_unique<Deleting>(service_, std::move(names), erased);
}

void Sweeping::go_on(const std::string& token) {
  const std::string next = token;  // deleting_'s callback owns it
  deleting_.reset();
  next.empty() ? finish(count_) : list(next);
}

void Sweeping::finish(Result<ChunkCount> result) {
  deleting_.reset();
  request_.reset();
  const Done done = std::exchange(done_, nullptr);
  done(std::move(result));  // this may be gone now
}

}  // namespace baton::s3
