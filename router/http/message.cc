#include "router/http/message.h"

#include <algorithm>
#include <cctype>

namespace baton::http {
namespace {

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

void append_on_one_line(std::string& out, std::string_view text) {
  for (const char c : text) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
}

}  // namespace

std::string_view find_header(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (equal_ignoring_case(key, name)) return value;
  }
  return {};
}

std::string_view Request::path() const {
  const std::string_view all = target;
  return all.substr(0, all.find('?'));
}

const char* reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 413:
      return "Payload Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

Result<Url> Url::parse(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  const auto wrong = [&](const std::string& why) {
    return Status(Code::kInvalidArgument,
                  "'" + std::string(text) + "': expected http://host:port: " + why);
  };
  if (!text.starts_with(kScheme)) return wrong("it must begin with http://");
  std::string_view rest = text.substr(kScheme.size());
  Url url;
  if (const size_t slash = rest.find('/'); slash != rest.npos) {
    url.prefix = rest.substr(slash);
    rest = rest.substr(0, slash);
  }
  while (url.prefix.ends_with('/')) url.prefix.pop_back();
  const size_t colon = rest.rfind(':');
  const bool has_port = colon != rest.npos && rest.find(']', colon) == rest.npos;
  Result<HostPort> address = HostPort::parse(std::string(rest) + (has_port ? "" : ":80"));
  if (!address.ok()) return wrong(address.status().message());
  if (address->port == 0) return wrong("port 0 cannot be connected to");
  url.address = *address;
  return url;
}

std::string Url::to_string() const { return "http://" + address.to_string() + prefix; }

std::string serialize_head(int status, const Headers& headers) {
  std::string out = "HTTP/1.1 " + std::to_string(status) + ' ' + reason_phrase(status) + "\r\n";
  for (const auto& [name, value] : headers) {
    append_on_one_line(out, name);
    out += ": ";
    append_on_one_line(out, value);
    out += "\r\n";
  }
  out += "\r\n";
  return out;
}

}  // namespace baton::http
