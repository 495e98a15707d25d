#include "transfer/tiers/s3/request.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <initializer_list>

#include "transfer/base/log.h"
#include "transfer/base/text.h"
#include "transfer/tiers/s3/s3_xml.h"

namespace baton::s3 {
namespace {

bool one_of(int status, std::initializer_list<int> statuses) {
  return std::find(statuses.begin(), statuses.end(), status) != statuses.end();
}

// Another try may be answered otherwise.
bool is_passing(const S3Answer& answer) {
  return one_of(answer.status, {408, 429, 500, 502, 503, 504}) ||
         (answer.status == 409 && answer.code != "BucketAlreadyExists") ||
         answer.code == "RequestTimeout";
}

// The service, or what we are to it, is not as it should be: nothing that is asked will work.
bool is_trouble(const S3Answer& answer) {
  return one_of(answer.status, {301, 302, 303, 307, 308, 400, 401, 403}) ||
         answer.code == "NoSuchBucket";
}

// It would fail again in the same way.
bool is_hopeless(CURLcode code) {
  for (const CURLcode hopeless :
       {CURLE_WRITE_ERROR, CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL,
        CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE}) {
    if (code == hopeless) return true;
  }
  return false;
}

}  // namespace

struct Request::Try : HttpBody {
  Try(Request& owner, std::unique_ptr<Turns::Place> turn)
      : request(owner), place(std::move(turn)), began_at(now()) {}

  bool received(uint64_t offset, std::span<const std::byte> bytes) override {
    return request.on_bytes(*this, first + offset, bytes);
  }
  size_t send(uint64_t offset, std::span<std::byte> into) override {
    return request.body_.send(offset, into);
  }

  Request& request;
  const std::unique_ptr<Turns::Place> place;  // given up when the call is gone
  const TimePoint began_at;
  uint64_t first = 0;   // of the object: where its range begins
  bool spoke = false;   // a byte of a 2xx has come
  bool fenced = false;  // the other one has won
  std::unique_ptr<HttpCall> call;
};

Request::Request(Service& service, RequestSpec spec, RequestBody& body, Done done)
    : service_(service),
      spec_(std::move(spec)),
      body_(body),
      done_(std::move(done)),
      timer_(service.io) {
  queue();
  watch();
}

Request::~Request() = default;

void Request::queue() {
  place_ = service_.turns.ask(spec_.turn, [this] { begin(); });
}

void Request::begin() {
  // The last try broke off after its last byte.
  if (const auto range = body_.wanted(); range && range->bytes == 0)
    return finish(S3Answer{.status = 206});
  ++tries_;
  hedged_ = false;
  first_ = start(std::move(place_));
  if (spec_.method == HttpMethod::kGet) service_.hedging.began();
  watch();
}

std::unique_ptr<Request::Try> Request::start(std::unique_ptr<Turns::Place> place) {
  auto started = std::make_unique<Try>(*this, std::move(place));
  HttpRequest request{.method = spec_.method,
                      .url = spec_.url,
                      .headers = spec_.headers,
                      .range = body_.wanted(),
                      .body_bytes = spec_.body_bytes};
  if (request.range) started->first = request.range->first;
  started->call = service_.http->start(
      request, *started,
      [this, it = started.get()](HttpAnswer answer) { on_answer(*it, std::move(answer)); });
  return started;
}

// Inside libcurl.
bool Request::on_bytes(Try& from, uint64_t offset, std::span<const std::byte> bytes) {
  if (from.fenced) return false;
  if (!std::exchange(from.spoke, true) && spec_.method == HttpMethod::kGet)
    service_.hedging.answered(now() - from.began_at);
  Try* const other = &from == first_.get() ? hedge_.get() : first_.get();
  if (other != nullptr && !other->fenced) {
    other->fenced = true;
    if (&from == hedge_.get()) service_.metrics.hedges_won.Increment();
    // It cannot be removed in here.
    boost::asio::post(service_.io, alive_.guard([this] { drop_fenced(); }));
  }
  return body_.received(offset, bytes);
}

void Request::on_answer(Try& from, HttpAnswer http) {
  if (from.fenced) return drop(from);  // the other one goes on
  drop_fenced();
  service_.metrics.request(spec_.method, http.status);
  if (!http.complete()) {
    if (is_hopeless(http.curl)) {
      service_.failed(what() + ": " + http.error);
      return finish(Status(Code::kUnavailable, what() + ": " + http.error, http.curl));
    }
    return try_failed(from, http.error, Duration::zero());
  }
  S3Answer answer{.status = http.status, .length = http.length};
  if (!answer.ok()) answer.code = error_code(http.text);
  if (is_passing(answer)) return try_failed(from, to_text(answer), http.retry_after);
  is_trouble(answer) ? service_.failed(what() + ": " + to_text(answer)) : service_.worked();
  finish(std::move(answer));
}

void Request::try_failed(Try& from, const std::string& why, Duration at_least) {
  service_.failed(what() + ": " + why);
  drop_fenced();
  log::debug("s3: a try failed request=\"{}\" tries={} error=\"{}\"", what(), tries_, why);
  last_ = why;
  drop(from);
  if (first_ != nullptr) return watch();  // the other one goes on
  if (tries_ >= service_.config.tries) {
    return finish(
        Status(Code::kUnavailable, what() + ": " + last_ + ", in " + number(tries_) + " tries"));
  }
  resume_at_ = now() + std::max(service_.pause_after(tries_), at_least);
  if (resume_at_ >= spec_.deadline) {
    return finish(Status(Code::kDeadlineExceeded, what() + ": " + last_ + ", in " + number(tries_) +
                                                      " tries, and its deadline is too near"));
  }
  pausing_ = true;
  service_.metrics.retries.Increment();
  watch();
}

// Removing its call is what fences it.
void Request::drop(Try& which) {
  if (&which == first_.get()) {
    first_ = std::move(hedge_);
    hedged_ &= first_ == nullptr;  // what was the hedge may have one too
  }
  hedge_.reset();
}

void Request::drop_fenced() {
  for (auto* one : {&first_, &hedge_})
    if (*one != nullptr && (*one)->fenced) drop(**one);
}

// Sleeps until there may be something to do.
void Request::watch() {
  TimePoint at = spec_.deadline;
  if (pausing_) at = std::min(at, resume_at_);
  for (const auto* one : {&first_, &hedge_}) {
    if (*one != nullptr) at = std::min(at, (*one)->call->moved_at() + service_.config.stall);
  }
  if (spec_.method == HttpMethod::kGet && first_ != nullptr && !hedged_) {
    const auto delay = service_.hedging.delay();
    // One that is silent longer than this and has no hedge looks for one again.
    if (delay && service_.hedging.may())
      at = std::min(at, std::max(first_->call->moved_at() + *delay, now() + *delay / 4));
  }
  timer_.expires_at(at);
  timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (!error) on_time();
  }));
}

void Request::on_time() {
  const TimePoint time = now();
  if (time >= spec_.deadline) {
    std::string text = what() + ": no answer within its deadline, in " + number(tries_) + " tries";
    if (!last_.empty()) text += "; before: " + last_;
    if (first_ != nullptr) service_.failed(text);
    return finish(Status(Code::kDeadlineExceeded, std::move(text)));
  }
  if (pausing_ && time >= resume_at_) {
    pausing_ = false;
    queue();
  }
  for (const auto* one : {&hedge_, &first_}) {
    if (*one == nullptr || time - (*one)->call->moved_at() < service_.config.stall) continue;
    service_.metrics.request(spec_.method, 0);
    return try_failed(
        **one,
        "nothing moved for " + number(static_cast<uint64_t>(to_ms(service_.config.stall))) + " ms",
        Duration::zero());
  }
  maybe_hedge();
  watch();
}

void Request::maybe_hedge() {
  if (spec_.method != HttpMethod::kGet || first_ == nullptr || hedged_) return;
  Hedging& hedging = service_.hedging;
  const auto delay = hedging.delay();
  if (!delay || !hedging.may() || now() - first_->call->moved_at() < *delay) return;
  if (const auto range = body_.wanted(); range && range->bytes == 0) return;
  auto place = service_.turns.ask_now(spec_.turn);
  if (place == nullptr) return;
  hedged_ = true;
  hedging.take();
  service_.metrics.hedges.Increment();
  hedge_ = start(std::move(place));
}

void Request::finish(Result<S3Answer> result) {
  timer_.cancel();
  place_.reset();
  hedge_.reset();
  first_.reset();
  alive_.cut();
  const Done done = std::exchange(done_, nullptr);
  done(std::move(result));  // this may be gone now
}

// The name alone: what is before it is the same for all.
std::string Request::what() const {
  const size_t host = spec_.url.find("://") + 3;
  return std::string(method_name(spec_.method)) + " " + spec_.url.substr(spec_.url.find('/', host));
}

std::string to_text(const S3Answer& answer) {
  return number(static_cast<uint64_t>(answer.status)) +
         (answer.code.empty() ? "" : " " + answer.code);
}

}  // namespace baton::s3
