#include "transfer/tiers/s3/http_loop.h"

#include <boost/asio/posix/stream_descriptor.hpp>

#include "transfer/base/check.h"
#include "transfer/base/log.h"

namespace baton::s3 {
namespace {

using Descriptor = boost::asio::posix::stream_descriptor;

template <typename Value>
void set_option(CURLM* multi, CURLMoption option, Value value) {
  const CURLMcode code = curl_multi_setopt(multi, option, value);
  BATON_CHECK(code == CURLM_OK, curl_multi_strerror(code));
}

}  // namespace

// A socket of libcurl's; it is never closed here.
struct Multi::Watch {
  Watch(boost::asio::io_context& io, curl_socket_t fd) : descriptor(io), socket(fd) {}
  ~Watch() {
    if (descriptor.is_open()) descriptor.release();
  }

  Descriptor descriptor;
  const curl_socket_t socket;
  int wanted = 0;   // CURL_POLL_IN, CURL_POLL_OUT or both; 0: not watched any more
  int waiting = 0;  // for which of them the io_context waits
};

Multi::Multi(boost::asio::io_context& io, uint32_t connections)
    : io_(io), timer_(io), handle_(curl_multi_init()) {
  BATON_CHECK(handle_ != nullptr, "curl_multi_init");
  set_option(handle_, CURLMOPT_SOCKETFUNCTION, &Multi::on_socket);
  set_option(handle_, CURLMOPT_SOCKETDATA, this);
  set_option(handle_, CURLMOPT_TIMERFUNCTION, &Multi::on_timer);
  set_option(handle_, CURLMOPT_TIMERDATA, this);
  set_option(handle_, CURLMOPT_MAXCONNECTS, static_cast<long>(connections));
  set_option(handle_, CURLMOPT_PIPELINING, long{CURLPIPE_NOTHING});
}

Multi::~Multi() {
  // Closes connections, and says so to on_socket.
  const CURLMcode code = curl_multi_cleanup(handle_);
  BATON_CHECK(code == CURLM_OK, curl_multi_strerror(code));
}

void Multi::add(HttpCall& call) {
  const CURLMcode code = curl_multi_add_handle(handle_, call.easy_);
  BATON_CHECK(code == CURLM_OK, curl_multi_strerror(code));
}

void Multi::remove(HttpCall& call) {
  const CURLMcode code = curl_multi_remove_handle(handle_, call.easy_);
  BATON_CHECK(code == CURLM_OK, curl_multi_strerror(code));
}

int Multi::on_socket(CURL*, curl_socket_t socket, int what, void* self, void*) {
  static_cast<Multi*>(self)->watch(socket, what);
  return 0;
}

void Multi::watch(curl_socket_t socket, int what) {
  auto& watch = watches_[socket];
  if (what == CURL_POLL_REMOVE) {
    if (watch != nullptr) {
      watch->wanted = 0;
      watch->descriptor.release();  // libcurl keeps or closes it; what waits is cancelled
    }
    watches_.erase(socket);
    return;
  }
  if (watch == nullptr) {
    watch = std::make_shared<Watch>(io_, socket);
    boost::system::error_code error;
    watch->descriptor.assign(socket, error);
    // Then its request ends at a deadline and is tried again.
    if (error) log::error("s3: a socket cannot be waited for error=\"{}\"", error.message());
  }
  watch->wanted = what;
  wait(watch, CURL_POLL_IN);
  wait(watch, CURL_POLL_OUT);
}

void Multi::wait(const std::shared_ptr<Watch>& watch, int what) {
  if ((watch->wanted & what) == 0 || (watch->waiting & what) != 0) return;
  watch->waiting |= what;
  const auto kind = what == CURL_POLL_IN ? Descriptor::wait_read : Descriptor::wait_write;
  watch->descriptor.async_wait(
      kind, [weak = weak_from_this(), watch, what](const boost::system::error_code& error) {
        const auto self = weak.lock();
        watch->waiting &= ~what;
        // No longer watched, or not for this: libcurl has thought otherwise meanwhile.
        if (self == nullptr || error || (watch->wanted & what) == 0) return;
        self->act(watch->socket, what == CURL_POLL_IN ? CURL_CSELECT_IN : CURL_CSELECT_OUT);
        self->wait(watch, what);
      });
}

int Multi::on_timer(CURLM*, long timeout_ms, void* self) {
  Multi& multi = *static_cast<Multi*>(self);
  if (timeout_ms < 0) {
    multi.timer_.cancel();
    return 0;
  }
  multi.timer_.expires_after(std::chrono::milliseconds(timeout_ms));
  multi.timer_.async_wait([weak = multi.weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (self != nullptr && !error) self->act(CURL_SOCKET_TIMEOUT, 0);
  });
  return 0;
}

void Multi::act(curl_socket_t socket, int what) {
  int running = 0;
  const CURLMcode code = curl_multi_socket_action(handle_, socket, what, &running);
  BATON_CHECK(code == CURLM_OK, curl_multi_strerror(code));
  // One at a time: what a call's end leads to may destroy others that have ended too.
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(handle_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode result = message->data.result;
    HttpCall* call = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
    remove(*call);
    call->complete(result);
  }
}

HttpLoop::HttpLoop(boost::asio::io_context& io, HttpConfig config)
    : config_(std::move(config)), multi_(std::make_shared<Multi>(io, config_.connections)) {}

Result<std::unique_ptr<HttpLoop>> HttpLoop::create(boost::asio::io_context& io, HttpConfig config) {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK)
    return Status(Code::kInternal, std::string("libcurl: ") + curl_easy_strerror(global));
  const curl_version_info_data* const version = curl_version_info(CURLVERSION_NOW);
  if ((version->features & CURL_VERSION_ASYNCHDNS) == 0)
    return Status(Code::kInternal, "this libcurl resolves names on the caller's thread");
  if ((version->features & CURL_VERSION_SSL) == 0)
    return Status(Code::kInternal, "this libcurl has no TLS");
  return std::unique_ptr<HttpLoop>(new HttpLoop(io, std::move(config)));
}

}  // namespace baton::s3
