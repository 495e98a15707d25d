// One HTTP request over libcurl, signed with AWS Signature Version 4.
//
// Thread safety: confined to the thread of its HttpLoop's io_context.
#pragma once

#include <curl/curl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "transfer/base/clock.h"

namespace baton::s3 {

class Multi;
struct HttpConfig;

enum class HttpMethod : uint8_t { kGet, kHead, kPut, kDelete };
const char* method_name(HttpMethod method);

struct ByteRange {
  uint64_t first = 0;
  uint64_t bytes = 0;
};

struct HttpRequest {
  HttpMethod method = HttpMethod::kGet;
  std::string url;                   // path and query as they are signed
  std::vector<std::string> headers;  // "Name: value", none empty
  std::optional<ByteRange> range;    // GET: an answer without it, or with another, is refused
  uint64_t body_bytes = 0;           // PUT
};

// The bytes of a request and of its answer. Both functions run inside libcurl: they touch memory
// and nothing else, no call and no loop.
class HttpBody {
 public:
  virtual ~HttpBody() = default;
  // Of a 2xx answer's body, from `offset` in it. False: the call ends, with `curl`
  // CURLE_WRITE_ERROR.
  virtual bool received(uint64_t offset, std::span<const std::byte> bytes) = 0;
  // The request's bytes from `offset` on; as many as fit, of body_bytes.
  virtual size_t send(uint64_t offset, std::span<std::byte> into) = 0;
};

struct HttpAnswer {
  int status = 0;  // 0: none came
  CURLcode curl = CURLE_OK;
  std::string error;               // what libcurl says where `curl` is not CURLE_OK
  std::string text;                // of an answer that is no 2xx: the beginning of its body
  std::optional<uint64_t> length;  // Content-Length
  Duration retry_after = Duration::zero();

  bool complete() const { return curl == CURLE_OK; }
};

class HttpCall {
 public:
  using Done = std::function<void(HttpAnswer)>;

  // Begins. `done` runs once, unless the call is destroyed before; never inside this. The call may
  // be destroyed in it. The body must live until `done` runs or the call is destroyed: from then on
  // libcurl touches it no more.
  HttpCall(std::shared_ptr<Multi> multi, const HttpConfig& config, const HttpRequest& request,
           HttpBody& body, Done done);
  ~HttpCall();
  HttpCall(const HttpCall&) = delete;
  HttpCall& operator=(const HttpCall&) = delete;

  // When a byte of it was last sent or received; at first, when it began.
  TimePoint moved_at() const { return moved_at_; }

 private:
  friend class Multi;
  void set_options(const HttpConfig& config, const HttpRequest& request);
  void add_header(const char* line);
  // It has ended and is taken from the multi handle.
  void complete(CURLcode code);

  static size_t on_received(char* data, size_t size, size_t count, void* self);
  static size_t on_send(char* into, size_t size, size_t count, void* self);
  static int on_seek(void* self, curl_off_t offset, int origin);
  static size_t on_header(char* data, size_t size, size_t count, void* self);
  size_t received(std::span<const std::byte> bytes);
  bool begins_as_asked();

  const std::shared_ptr<Multi> multi_;
  HttpBody& body_;
  Done done_;
  const std::optional<ByteRange> range_;
  const uint64_t body_bytes_;

  CURL* easy_ = nullptr;
  curl_slist* headers_ = nullptr;
  std::array<char, CURL_ERROR_SIZE> error_{};
  std::string refusal_;  // why the answer is none to what was asked
  std::string text_;
  bool begun_ = false;   // the answer's body
  bool wanted_ = false;  // it is a 2xx
  uint64_t received_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  TimePoint moved_at_;
};

}  // namespace baton::s3
