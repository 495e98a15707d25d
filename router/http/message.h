// HTTP/1.1 messages as plain values, shared by server and client.
//
// Thread safety: plain values, externally synchronised.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "transfer/base/address.h"
#include "transfer/base/status.h"

namespace baton::http {

// Names as sent; look-ups ignore their case. Repeated names are allowed.
using Headers = std::vector<std::pair<std::string, std::string>>;

// The first value of `name`, empty where it is absent.
std::string_view find_header(const Headers& headers, std::string_view name);

struct Request {
  std::string method = "GET";
  std::string target = "/";  // path and query, e.g. "/health?deep=1"
  Headers headers;
  std::string body;

  // The target without its query.
  std::string_view path() const;
};

struct ResponseHead {
  int status = 0;
  Headers headers;
};

struct Response {
  int status = 0;
  Headers headers;
  std::string body;
};

// "OK" for 200 and so on; "Unknown" for codes that have no standard phrase.
const char* reason_phrase(int status);

// "http://host:port[/prefix]"; the port is 80 where none is given.
struct Url {
  HostPort address;
  std::string prefix;  // without a trailing slash; usually empty
  bool operator==(const Url&) const = default;

  // Errors: kInvalidArgument, naming `text` and what was expected.
  static Result<Url> parse(std::string_view text);
  std::string to_string() const;
};

// The first line and the headers of a response, with the empty line that ends them. Line breaks
// in names or values are replaced by spaces, so that no value can add a header of its own.
std::string serialize_head(int status, const Headers& headers);

}  // namespace baton::http
