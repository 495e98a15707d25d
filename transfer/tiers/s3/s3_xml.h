// What S3 says in XML: the code of an error, and a page of a listing.
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transfer/base/status.h"

namespace baton::s3 {

// "NoSuchKey"; empty where the text is none of S3's errors. At most 64 letters: it goes into logs.
std::string error_code(std::string_view text);

struct ListedObject {
  std::string name;
  uint64_t bytes = 0;
};

struct ListingPage {
  std::vector<ListedObject> objects;
  std::string next;  // token of the next page; empty: this is the last
};

// kProtocol where it is no listing.
Result<ListingPage> parse_listing(std::string_view text);

}  // namespace baton::s3
