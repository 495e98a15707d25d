// libcurl's multi interface on an io_context: one thread, no polling.
//
// libcurl says which sockets it waits for and when it wants to be called; the io_context waits. A
// call that is removed (HttpCall's destructor) is fenced: libcurl makes no callback for it any
// more. Names are resolved on libcurl's own threads.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <curl/curl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/tiers/s3/credentials.h"
#include "transfer/tiers/s3/http_call.h"

namespace baton::s3 {

struct HttpConfig {
  std::string region;
  Credentials credentials;
  std::string ca_file;  // empty: the system's
  Duration connect = std::chrono::seconds(2);
  uint32_t connections = 16;  // kept open between calls
};

// The multi handle and what it waits for. Shared by the loop, its calls and what io_context holds.
class Multi : public std::enable_shared_from_this<Multi> {
 public:
  Multi(boost::asio::io_context& io, uint32_t connections);
  ~Multi();
  Multi(const Multi&) = delete;
  Multi& operator=(const Multi&) = delete;

  void add(HttpCall& call);
  void remove(HttpCall& call);

 private:
  struct Watch;

  static int on_socket(CURL*, curl_socket_t socket, int what, void* self, void*);
  static int on_timer(CURLM*, long timeout_ms, void* self);
  void watch(curl_socket_t socket, int what);
  void wait(const std::shared_ptr<Watch>& watch, int what);
  void act(curl_socket_t socket, int what);

  boost::asio::io_context& io_;
  boost::asio::steady_timer timer_;
  std::unordered_map<curl_socket_t, std::shared_ptr<Watch>> watches_;
  CURLM* handle_;
};

class HttpLoop {
 public:
  // Errors: kInternal where libcurl cannot be used, kInvalidArgument where it cannot sign.
  static Result<std::unique_ptr<HttpLoop>> create(boost::asio::io_context& io, HttpConfig config);

  std::unique_ptr<HttpCall> start(const HttpRequest& request, HttpBody& body,
                                  HttpCall::Done done) const {
    return std::make_unique<HttpCall>(multi_, config_, request, body, std::move(done));
  }

 private:
  HttpLoop(boost::asio::io_context& io, HttpConfig config);

  const HttpConfig config_;
  const std::shared_ptr<Multi> multi_;
};

}  // namespace baton::s3
