#include "transfer/tiers/s3/http_call.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "transfer/base/check.h"
#include "transfer/tiers/s3/http_loop.h"

namespace baton::s3 {
namespace {

constexpr size_t kMaxTextBytes = 8192;
constexpr long kBufferBytes = 256 << 10;

long long_ms(Duration duration) {
  return static_cast<long>(
      std::max<int64_t>(1, std::chrono::ceil<std::chrono::milliseconds>(duration).count()));
}

// "bytes 0-99/1000" → 0
std::optional<uint64_t> first_of_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  uint64_t first = 0;
  if (!text.starts_with(kUnit)) return std::nullopt;
  const auto parsed = std::from_chars(text.data() + kUnit.size(), text.data() + text.size(), first);
  if (parsed.ec != std::errc() || *parsed.ptr != '-') return std::nullopt;
  return first;
}

template <typename Value>
void set_option(CURL* easy, CURLoption option, Value value) {
  const CURLcode code = curl_easy_setopt(easy, option, value);
  BATON_CHECK(code == CURLE_OK, curl_easy_strerror(code));
}

}  // namespace

const char* method_name(HttpMethod method) {
  switch (method) {
    case HttpMethod::kGet:
      return "GET";
    case HttpMethod::kHead:
      return "HEAD";
    case HttpMethod::kPut:
      return "PUT";
    case HttpMethod::kDelete:
      return "DELETE";
  }
  return "";
}

HttpCall::HttpCall(std::shared_ptr<Multi> multi, const HttpConfig& config,
                   const HttpRequest& request, HttpBody& body, Done done)
    : multi_(std::move(multi)),
      body_(body),
      done_(std::move(done)),
      range_(request.range),
      body_bytes_(request.body_bytes),
      easy_(curl_easy_init()),
      moved_at_(now()) {
  BATON_CHECK(easy_ != nullptr, "curl_easy_init");
  set_options(config, request);
  multi_->add(*this);
}

HttpCall::~HttpCall() {
  if (done_) multi_->remove(*this);
  curl_easy_cleanup(easy_);
  curl_slist_free_all(headers_);
}

void HttpCall::set_options(const HttpConfig& config, const HttpRequest& request) {
  set_option(easy_, CURLOPT_PRIVATE, this);
  set_option(easy_, CURLOPT_URL, request.url.c_str());
  set_option(easy_, CURLOPT_PATH_AS_IS, 1L);
  set_option(easy_, CURLOPT_PROTOCOLS_STR, "http,https");
  // Each request has a connection of its own.
  set_option(easy_, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  set_option(easy_, CURLOPT_FOLLOWLOCATION, 0L);
  set_option(easy_, CURLOPT_NOSIGNAL, 1L);
  // KV bytes do not go where an environment variable of the day says.
  set_option(easy_, CURLOPT_PROXY, "");
  // A call that is removed does not wait for its name's resolution.
  set_option(easy_, CURLOPT_QUICK_EXIT, 1L);
  set_option(easy_, CURLOPT_CONNECTTIMEOUT_MS, long_ms(config.connect));
  set_option(easy_, CURLOPT_TCP_KEEPALIVE, 1L);
  set_option(easy_, CURLOPT_BUFFERSIZE, kBufferBytes);
  set_option(easy_, CURLOPT_UPLOAD_BUFFERSIZE, kBufferBytes);
  set_option(easy_, CURLOPT_ERRORBUFFER, error_.data());
  if (!config.ca_file.empty()) set_option(easy_, CURLOPT_CAINFO, config.ca_file.c_str());

  set_option(easy_, CURLOPT_WRITEFUNCTION, &HttpCall::on_received);
  set_option(easy_, CURLOPT_WRITEDATA, this);
  set_option(easy_, CURLOPT_READFUNCTION, &HttpCall::on_send);
  set_option(easy_, CURLOPT_READDATA, this);
  set_option(easy_, CURLOPT_SEEKFUNCTION, &HttpCall::on_seek);
  set_option(easy_, CURLOPT_SEEKDATA, this);
  set_option(easy_, CURLOPT_HEADERFUNCTION, &HttpCall::on_header);
  set_option(easy_, CURLOPT_HEADERDATA, this);

  set_option(easy_, CURLOPT_AWS_SIGV4, ("aws:amz:" + config.region + ":s3").c_str());
  set_option(easy_, CURLOPT_USERNAME, config.credentials.access_key_id.c_str());
  set_option(easy_, CURLOPT_PASSWORD, config.credentials.secret_access_key.c_str());
  // The payload's own checksums say more than a hash that would cost one more pass over it.
  add_header("x-amz-content-sha256: UNSIGNED-PAYLOAD");
  if (const std::string& token = config.credentials.session_token; !token.empty())
    add_header(("x-amz-security-token: " + token).c_str());
  for (const std::string& header : request.headers) add_header(header.c_str());
  set_option(easy_, CURLOPT_HTTPHEADER, headers_);

  if (request.range) {
    const uint64_t last = request.range->first + request.range->bytes - 1;
    const std::string range = std::to_string(request.range->first) + "-" + std::to_string(last);
    set_option(easy_, CURLOPT_RANGE, range.c_str());
  }
  if (request.method == HttpMethod::kHead) set_option(easy_, CURLOPT_NOBODY, 1L);
  if (request.method == HttpMethod::kDelete) set_option(easy_, CURLOPT_CUSTOMREQUEST, "DELETE");
  if (request.method == HttpMethod::kPut) {
    set_option(easy_, CURLOPT_UPLOAD, 1L);
    set_option(easy_, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.body_bytes));
  }
}

void HttpCall::add_header(const char* line) {
  curl_slist* const longer = curl_slist_append(headers_, line);
  BATON_CHECK(longer != nullptr, "curl_slist_append");
  headers_ = longer;
}

void HttpCall::complete(CURLcode code) {
  HttpAnswer answer;
  long status = 0;
  curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  answer.curl = code;
  // A server that refuses a PUT need not read it to its end, and may have closed the connection.
  if (status >= 300 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR))
    answer.curl = CURLE_OK;
  if (!answer.complete()) {
    answer.error = !refusal_.empty()     ? refusal_
                   : error_.front() != 0 ? error_.data()
                                         : curl_easy_strerror(code);
  }
  answer.text = std::move(text_);
  curl_off_t length = -1, retry_after = 0;
  curl_easy_getinfo(easy_, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
  if (length >= 0) answer.length = static_cast<uint64_t>(length);
  curl_easy_getinfo(easy_, CURLINFO_RETRY_AFTER, &retry_after);
  answer.retry_after = std::chrono::seconds(std::clamp<curl_off_t>(retry_after, 0, 3600));
  const Done done = std::exchange(done_, nullptr);
  done(std::move(answer));  // this may be gone now
}

size_t HttpCall::on_received(char* data, size_t size, size_t count, void* self) {
  return static_cast<HttpCall*>(self)->received(
      std::as_bytes(std::span<const char>(data, size * count)));
}

size_t HttpCall::received(std::span<const std::byte> bytes) {
  moved_at_ = now();
  if (!begun_) {
    begun_ = true;
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    wanted_ = status >= 200 && status < 300;
    if (wanted_ && range_ && !begins_as_asked()) return 0;
  }
  if (!wanted_) {
    const size_t room = kMaxTextBytes - text_.size();
    text_.append(reinterpret_cast<const char*>(bytes.data()), std::min(room, bytes.size()));
    return bytes.size();
  }
  const uint64_t offset = received_bytes_;
  received_bytes_ += bytes.size();
  return body_.received(offset, bytes) ? bytes.size() : 0;
}

bool HttpCall::begins_as_asked() {
  curl_header* header = nullptr;
  const CURLHcode found = curl_easy_header(easy_, "content-range", 0, CURLH_HEADER, -1, &header);
  if (found == CURLHE_OK && first_of_content_range(header->value) == range_->first) return true;
  refusal_ = "the answer to a request for bytes from " + std::to_string(range_->first) +
             (found == CURLHE_OK ? " on has '" + std::string(header->value) + "'"
                                 : " on has no content-range");
  return false;
}

size_t HttpCall::on_send(char* into, size_t size, size_t count, void* self) {
  HttpCall& call = *static_cast<HttpCall*>(self);
  const uint64_t left = call.body_bytes_ - call.sent_bytes_;
  const size_t room = static_cast<size_t>(std::min<uint64_t>(left, size * count));
  if (room == 0) return 0;
  const size_t sent =
      call.body_.send(call.sent_bytes_, std::as_writable_bytes(std::span(into, room)));
  call.sent_bytes_ += sent;
  call.moved_at_ = now();
  return sent;
}

// libcurl begins again where a connection that it kept turns out to be closed.
int HttpCall::on_seek(void* self, curl_off_t offset, int origin) {
  HttpCall& call = *static_cast<HttpCall*>(self);
  if (origin != SEEK_SET || offset < 0 || static_cast<uint64_t>(offset) > call.body_bytes_)
    return CURL_SEEKFUNC_FAIL;
  call.sent_bytes_ = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

size_t HttpCall::on_header(char*, size_t size, size_t count, void* self) {
  static_cast<HttpCall*>(self)->moved_at_ = now();
  return size * count;
}

}  // namespace baton::s3
