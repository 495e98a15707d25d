#include "transfer/tiers/s3/urls.h"

namespace baton::s3 {

Urls::Urls(const S3Config& config) : page_objects_(config.page_objects) {
  if (config.style == UrlStyle::kPath) {
    bucket_ = config.endpoint + "/" + config.bucket + "/";
    return;
  }
  const size_t host = config.endpoint.find("://") + 3;
  bucket_ =
      config.endpoint.substr(0, host) + config.bucket + "." + config.endpoint.substr(host) + "/";
}

// The parameters stand in the order that they are signed in: libcurl does not sort them.
std::string Urls::listing(const std::string& prefix, const std::string& token) const {
  return bucket_ + "?" +
         (token.empty() ? "" : "continuation-token=" + percent_encoded(token) + "&") +
         "list-type=2&max-keys=" + std::to_string(page_objects_) +
         "&prefix=" + percent_encoded(prefix);
}

std::string percent_encoded(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool as_it_is = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    if (as_it_is) {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

}  // namespace baton::s3
