#include "transfer/tiers/s3/s3_config.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace baton::s3 {
namespace {

constexpr std::string_view kScheme = "s3://";
constexpr const char* kKnownParameters = "endpoint, region, style, ca, profile, connections";
// Services whose buckets are hosts.
constexpr std::string_view kVirtualHosts[] = {"amazonaws.com", "cwobject.com", "cwlota.com"};

constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kDigits = "0123456789";

bool only(std::string_view text, std::initializer_list<std::string_view> sets) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return std::any_of(sets.begin(), sets.end(),
                       [c](std::string_view set) { return set.find(c) != set.npos; });
  });
}

Status wrong(const std::string& what, std::string_view value, const std::string& expected) {
  return Status(Code::kInvalidArgument,
                "s3: " + what + " is '" + std::string(value) + "': expected " + expected);
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    uint8_t byte = 0;
    if (text.size() - i < 3) return std::nullopt;
    const char* const last = text.data() + i + 3;
    const auto parsed = std::from_chars(text.data() + i + 1, last, byte, 16);
    if (parsed.ec != std::errc() || parsed.ptr != last || byte < ' ') return std::nullopt;
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

Status check_bucket(const std::string& bucket) {
  const auto end_is = [](char c) { return only({&c, 1}, {kLower, kDigits}); };
  if (bucket.size() < 3 || bucket.size() > 63 || !only(bucket, {kLower, kDigits, "-."}) ||
      !end_is(bucket.front()) || !end_is(bucket.back()) || bucket.find("..") != bucket.npos) {
    return wrong("the bucket", bucket,
                 "3 to 63 of a-z, 0-9, '-' and '.', as in s3://bucket/prefix");
  }
  return ok_status();
}

// Only characters that are the same in a URL, in a signature and in a listing.
Status check_prefix(const std::string& prefix) {
  const char* const expected =
      "at most 512 of A-Z, a-z, 0-9, '-', '_', '.', '/', no empty part, "
      "and none that is '.' or '..'";
  if (prefix.size() > 512 || !only(prefix, {kLower, kUpper, kDigits, "-_./"}))
    return wrong("the prefix", prefix, expected);
  const std::string framed = "/" + prefix + "/";
  for (const char* part : {"//", "/./", "/../"}) {
    if (!prefix.empty() && framed.find(part) != framed.npos)
      return wrong("the prefix", prefix, expected);
  }
  return ok_status();
}

// Of "https://host:port".
std::string_view host_of(std::string_view endpoint) {
  std::string_view rest = endpoint.substr(endpoint.find("://") + 3);
  return rest.front() == '[' ? rest.substr(0, rest.find(']') + 1) : rest.substr(0, rest.find(':'));
}

Status check_region(const std::string& region) {
  if (region.empty() || region.size() > 63 || !only(region, {kLower, kUpper, kDigits, "-_"})) {
    return wrong("the region", region, "1 to 63 of A-Z, a-z, 0-9, '-', '_'");
  }
  return ok_status();
}

Status check_endpoint(const std::string& endpoint) {
  const char* const expected = "http://host[:port] or https://host[:port]";
  if (endpoint.find('@') != endpoint.npos) {
    return Status(Code::kInvalidArgument,
                  std::string("s3: the endpoint has a user's name in it: expected ") + expected +
                      "; credentials come from the environment or a profile");
  }
  const bool http = endpoint.starts_with("http://");
  const bool https = endpoint.starts_with("https://");
  const std::string_view rest = http ? std::string_view(endpoint).substr(7)
                                     : std::string_view(endpoint).substr(https ? 8 : 0);
  if ((!http && !https) || rest.empty() || !only(rest, {kLower, kUpper, kDigits, "-.:[]"}))
    return wrong("the endpoint", endpoint, expected);
  const std::string_view host = host_of(endpoint);
  const std::string_view port = rest.substr(std::min(host.size(), rest.size()));
  uint16_t number = 0;
  if (host.empty()) return wrong("the endpoint", endpoint, expected);
  if (port.empty()) return ok_status();
  const auto parsed = std::from_chars(port.data() + 1, port.data() + port.size(), number);
  if (port.front() != ':' || parsed.ec != std::errc() || parsed.ptr != port.data() + port.size() ||
      number == 0) {
    return wrong("the endpoint", endpoint, expected);
  }
  return ok_status();
}

bool is_virtual_by_default(std::string_view host) {
  return std::any_of(std::begin(kVirtualHosts), std::end(kVirtualHosts), [&](std::string_view of) {
    return host == of || (host.ends_with(of) && host[host.size() - of.size() - 1] == '.');
  });
}

Status set(S3Config& config, std::optional<UrlStyle>& style, std::string_view name,
           const std::string& value) {
  if (name == "endpoint") {
    const bool slash = value.ends_with('/') && !value.ends_with("//");
    config.endpoint = value.substr(0, value.size() - slash);
  } else if (name == "region") {
    config.region = value;
  } else if (name == "style") {
    if (value != "path" && value != "virtual") return wrong("style", value, "path or virtual");
    style = value == "path" ? UrlStyle::kPath : UrlStyle::kVirtualHost;
  } else if (name == "ca") {
    if (value.empty()) return wrong("ca", value, "a file of certificates");
    config.ca_file = value;
  } else if (name == "profile") {
    if (value.empty()) return wrong("profile", value, "a section of the credentials file");
    config.profile = value;
  } else if (name == "connections") {
    const char* const end = value.data() + value.size();
    const auto parsed = std::from_chars(value.data(), end, config.connections);
    if (parsed.ec != std::errc() || parsed.ptr != end)
      return wrong("connections", value, "a number from 1 to 256");
  } else {
    return Status(Code::kInvalidArgument, "s3: unknown parameter '" + std::string(name) +
                                              "': expected one of " + kKnownParameters);
  }
  return ok_status();
}

Status set_all(S3Config& config, std::optional<UrlStyle>& style, std::string_view query) {
  while (!query.empty()) {
    const std::string_view one = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), one.size() + 1));
    const size_t equals = one.find('=');
    if (equals == one.npos) return wrong("a parameter", one, "name=value");
    const std::string_view name = one.substr(0, equals);
    const auto value = percent_decoded(one.substr(equals + 1));
    if (!value) {
      return wrong("parameter " + std::string(name), one.substr(equals + 1),
                   "'%' before two hexadecimal digits that are no control character");
    }
    BATON_RETURN_IF_ERROR(set(config, style, name, *value));
  }
  return ok_status();
}

}  // namespace

Result<S3Config> parse_s3_url(std::string_view url) {
  if (!url.starts_with(kScheme)) return wrong("the URL", url, "s3://bucket[/prefix][?…]");
  url.remove_prefix(kScheme.size());
  S3Config config;
  std::optional<UrlStyle> style;
  const size_t question = url.find('?');
  if (question != url.npos) BATON_RETURN_IF_ERROR(set_all(config, style, url.substr(question + 1)));
  url = url.substr(0, question);
  config.bucket = url.substr(0, url.find('/'));
  url.remove_prefix(config.bucket.size());
  if (url.starts_with('/')) url.remove_prefix(1);
  if (url.size() > 1 && url.ends_with('/')) url.remove_suffix(1);
  config.prefix = url;
  BATON_RETURN_IF_ERROR(check_region(config.region));  // it becomes part of a host's name
  if (config.endpoint.empty()) config.endpoint = "https://s3." + config.region + ".amazonaws.com";
  BATON_RETURN_IF_ERROR(check_endpoint(config.endpoint));
  config.style = style.value_or(
      is_virtual_by_default(host_of(config.endpoint)) ? UrlStyle::kVirtualHost : UrlStyle::kPath);
  BATON_RETURN_IF_ERROR(validate(config));
  return config;
}

Status validate(const S3Config& config) {
  BATON_RETURN_IF_ERROR(check_bucket(config.bucket));
  BATON_RETURN_IF_ERROR(check_prefix(config.prefix));
  BATON_RETURN_IF_ERROR(check_endpoint(config.endpoint));
  BATON_RETURN_IF_ERROR(check_region(config.region));
  const std::string_view host = host_of(config.endpoint);
  if (config.style == UrlStyle::kVirtualHost) {
    if (only(host, {kDigits, "."}) || host.front() == '[') {
      return wrong("the endpoint's host", host,
                   "a name where style is virtual: buckets are hosts "
                   "below it; or style=path");
    }
    if (config.endpoint.starts_with("https://") && config.bucket.find('.') != std::string::npos) {
      return wrong("the bucket", config.bucket,
                   "no '.' in it where style is virtual over https, because no certificate would "
                   "match; or style=path");
    }
  }
  if (config.connections < 1 || config.connections > 256)
    return wrong("connections", std::to_string(config.connections), "a number from 1 to 256");
  if (config.page_objects < 1 || config.page_objects > 1000)
    return wrong("page_objects", std::to_string(config.page_objects), "a number from 1 to 1000");
  if (config.tries < 1) return wrong("tries", std::to_string(config.tries), "at least 1");
  if (config.range_bytes == 0) return wrong("range_bytes", "0", "at least 1");
  return ok_status();
}

}  // namespace baton::s3
