// One request to the service, from its place in the queue to an answer or its deadline: tried again
// where that may help, and where a GET is silent for long asked a second time beside the first.
//
// Of two tries under way the one whose answer's body comes first goes on; the other is fenced
// before a byte of the winner's is taken: from then on what libcurl brings for it is dropped, and
// it is removed. So there is never more than one writer, and what a hedge brings needs no memory of
// its own. A try that begins later asks for what is still missing only.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transfer/base/status.h"
#include "transfer/tiers/s3/lifeline.h"
#include "transfer/tiers/s3/service.h"

namespace baton::s3 {

struct RequestSpec {
  HttpMethod method = HttpMethod::kGet;
  std::string url;
  std::vector<std::string> headers = {};
  TurnKind turn = TurnKind::kBackground;
  TimePoint deadline;
  uint64_t body_bytes = 0;
};

// An answer that another try would not change.
struct S3Answer {
  int status = 0;
  std::string code;                // of S3's error, "NoSuchBucket"; empty where there is none
  std::optional<uint64_t> length;  // Content-Length

  bool ok() const { return status >= 200 && status < 300; }
};

// What the caller has of a request. received() and send() touch memory and nothing else.
class RequestBody {
 public:
  virtual ~RequestBody() = default;
  // GET: which bytes are still missing. Asked when a try begins; nothing: all there are.
  virtual std::optional<ByteRange> wanted() { return std::nullopt; }
  // Of the object, from `offset` on, in order within a try; may begin at any place of wanted()'s
  // past. False ends the request with kInternal.
  virtual bool received(uint64_t, std::span<const std::byte>) { return true; }
  virtual size_t send(uint64_t, std::span<std::byte>) { return 0; }
};

class Request {
 public:
  // Errors: kDeadlineExceeded, kUnavailable (tried as often as allowed, or no use in it).
  using Done = std::function<void(Result<S3Answer>)>;

  // `done` runs once, never inside this, and may destroy the request; from then on, and from the
  // destruction on, nothing touches the body.
  Request(Service& service, RequestSpec spec, RequestBody& body, Done done);
  ~Request();
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

 private:
  struct Try;

  void queue();
  void begin();
  std::unique_ptr<Try> start(std::unique_ptr<Turns::Place> place);
  bool on_bytes(Try& from, uint64_t offset, std::span<const std::byte> bytes);
  void on_answer(Try& from, HttpAnswer answer);
  void try_failed(Try& from, const std::string& why, Duration at_least);
  void drop(Try& which);
  void drop_fenced();
  void watch();
  void on_time();
  void maybe_hedge();
  void finish(Result<S3Answer> result);
  std::string what() const;

  Service& service_;
  const RequestSpec spec_;
  RequestBody& body_;
  Done done_;
  uint32_t tries_ = 0;   // hedges not counted
  std::string last_;     // why the last try failed
  TimePoint resume_at_;  // after a pause
  bool pausing_ = false;
  bool hedged_ = false;  // this try has been

  boost::asio::steady_timer timer_;
  std::unique_ptr<Turns::Place> place_;  // waiting for a turn
  std::unique_ptr<Try> first_;
  std::unique_ptr<Try> hedge_;
  Lifeline alive_;
};

// "404 NoSuchKey"
std::string to_text(const S3Answer& answer);

}  // namespace baton::s3
