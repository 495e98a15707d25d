#include "perf/reference_s3.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "perf/measure.h"
#include "transfer/base/env.h"
#include "transfer/tiers/s3/credentials.h"

namespace baton::bench {
namespace {

constexpr long kBufferBytes = 512 << 10;
constexpr long kPatienceS = 60;

struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One connection's worth: an object after the other.
struct Transfer {
  CURL* easy = nullptr;
  std::span<const std::byte> body;
  size_t sent = 0;
  uint64_t received = 0;
  char error[CURL_ERROR_SIZE] = {};
};

size_t on_received(char*, size_t size, size_t count, void* self) {
  static_cast<Transfer*>(self)->received += size * count;
  return size * count;
}

size_t on_send(char* into, size_t size, size_t count, void* self) {
  auto* const transfer = static_cast<Transfer*>(self);
  const size_t n = std::min(size * count, transfer->body.size() - transfer->sent);
  std::memcpy(into, transfer->body.data() + transfer->sent, n);
  transfer->sent += n;
  return n;
}

}  // namespace

struct PlainS3::State {
  s3::S3Config where;
  s3::Credentials credentials;
  CURLM* multi = nullptr;
  std::vector<Transfer> transfers;
  std::unique_ptr<curl_slist, ListFree> headers;

  ~State() {
    for (Transfer& transfer : transfers) curl_easy_cleanup(transfer.easy);
    curl_multi_cleanup(multi);
  }

  void begin(Transfer& transfer, uint32_t object, std::span<const std::byte> body,
             const char* range) {
    CURL* const easy = transfer.easy;
    curl_easy_reset(easy);
    transfer.body = body;
    transfer.sent = transfer.received = 0;
    const std::string url =
        where.endpoint + "/" + where.bucket + "/reference/" + std::to_string(object);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, kPatienceS);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kBufferBytes);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kBufferBytes);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.error);
    if (!where.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, where.ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, ("aws:amz:" + where.region + ":s3").c_str());
    curl_easy_setopt(easy, CURLOPT_USERNAME, credentials.access_key_id.c_str());
    curl_easy_setopt(easy, CURLOPT_PASSWORD, credentials.secret_access_key.c_str());
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_received);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    if (range != nullptr) curl_easy_setopt(easy, CURLOPT_RANGE, range);
    if (!body.empty()) {
      curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
      curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body.size()));
      curl_easy_setopt(easy, CURLOPT_READFUNCTION, &on_send);
      curl_easy_setopt(easy, CURLOPT_READDATA, &transfer);
    }
    curl_multi_add_handle(multi, easy);
  }

  // `bytes`: of each answer.
  Result<double> run(uint32_t count, std::span<const std::byte> body, uint64_t bytes,
                     const char* range = nullptr) {
    const double began = seconds_now();
    uint32_t next = 0, ended = 0;
    for (Transfer& transfer : transfers)
      if (next < count) begin(transfer, next++, body, range);
    Status failed;
    while (ended < next) {
      int running = 0, left = 0;
      curl_multi_perform(multi, &running);
      while (const CURLMsg* const message = curl_multi_info_read(multi, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        const CURLcode code = message->data.result;
        Transfer* transfer = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        curl_multi_remove_handle(multi, transfer->easy);
        ++ended;
        if (code != CURLE_OK) {
          failed = Status(Code::kUnavailable,
                          std::string(curl_easy_strerror(code)) + ": " + transfer->error);
        } else if (transfer->received != bytes) {
          failed = Status(Code::kUnavailable, "an answer of " + std::to_string(transfer->received) +
                                                  " bytes: expected " + std::to_string(bytes));
        }
        if (next < count && failed.ok()) begin(*transfer, next++, body, range);
      }
      if (ended < next) curl_multi_poll(multi, nullptr, 0, 100, nullptr);
    }
    if (!failed.ok()) return failed;
    return seconds_now() - began;
  }
};

PlainS3::PlainS3(std::unique_ptr<State> state) : state_(std::move(state)) {}
PlainS3::~PlainS3() = default;

Result<std::unique_ptr<PlainS3>> PlainS3::create(const s3::S3Config& where, uint32_t connections) {
  if (where.style != s3::UrlStyle::kPath)
    return Status(Code::kInvalidArgument, "--url: expected style=path, as the reference asks");
  auto state = std::make_unique<State>();
  state->where = where;
  BATON_ASSIGN_OR_RETURN(state->credentials, s3::load_credentials(where.profile, env::aws()));
  if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
    return Status(Code::kInternal, "libcurl does not start");
  state->multi = curl_multi_init();
  state->headers.reset(curl_slist_append(nullptr, "x-amz-content-sha256: UNSIGNED-PAYLOAD"));
  if (const std::string& token = state->credentials.session_token; !token.empty())
    curl_slist_append(state->headers.get(), ("x-amz-security-token: " + token).c_str());
  state->transfers.resize(connections);
  for (Transfer& transfer : state->transfers) transfer.easy = curl_easy_init();
  curl_multi_setopt(state->multi, CURLMOPT_MAXCONNECTS, static_cast<long>(connections));
  return std::unique_ptr<PlainS3>(new PlainS3(std::move(state)));
}

Result<double> PlainS3::put(uint32_t count, std::span<const std::byte> bytes) {
  return state_->run(count, bytes, 0);
}

Result<double> PlainS3::get(uint32_t count, uint64_t bytes) {
  return state_->run(count, {}, bytes);
}

Result<double> PlainS3::round_trip() { return state_->run(1, {}, 1, "0-0"); }

}  // namespace baton::bench
