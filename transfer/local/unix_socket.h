// Abstract Unix stream sockets, and greetings that carry descriptors over them.
//
// Thin calls of the C library; sockets are non-blocking. Externally synchronised.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "transfer/base/unique_fd.h"
#include "transfer/local/records.h"

namespace baton::local {

// Listens at the abstract name (without its leading NUL). Errors: kInternal with errno.
Result<UniqueFd> listen_abstract(const std::string& name);
// Errors: kUnavailable where nobody listens there (in this network namespace).
Result<UniqueFd> connect_abstract(const std::string& name);
// kRefused where the other end belongs to another user.
Status check_same_user(int fd);

// Sends a greeting with the descriptors (borrowed). The socket is fresh, so it takes it at once.
Status send_greeting(int fd, const Greeting& greeting, std::span<const int> descriptors);

// A greeting that arrives, perhaps in pieces. It takes not a byte more than the greeting.
class GreetingReader {
 public:
  // What is there now; true once the greeting is whole. Errors: kUnavailable (closed), kProtocol.
  Result<bool> read(int fd);
  // Valid once whole. One descriptor for each arena of the greeting, else kProtocol.
  Result<Greeting> take(std::vector<UniqueFd>& descriptors);

 private:
  GreetingBytes bytes_{};
  size_t have_ = 0;
  std::vector<UniqueFd> descriptors_;
};

}  // namespace baton::local
