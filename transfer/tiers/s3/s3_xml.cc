#include "transfer/tiers/s3/s3_xml.h"

#include <algorithm>
#include <charconv>
#include <pugixml.hpp>

namespace baton::s3 {

std::string error_code(std::string_view text) {
  constexpr size_t kMost = 64;
  pugi::xml_document document;
  document.load_buffer(text.data(), text.size());
  std::string code = document.child("Error").child_value("Code");
  const bool letters = std::all_of(code.begin(), code.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  });
  return letters && code.size() <= kMost ? code : std::string();
}

Result<ListingPage> parse_listing(std::string_view text) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed = document.load_buffer(text.data(), text.size());
  const pugi::xml_node result = document.child("ListBucketResult");
  if (!parsed || result.empty())
    return Status(Code::kProtocol, "s3: what should be a listing is none");
  ListingPage page;
  for (const pugi::xml_node object : result.children("Contents")) {
    const std::string_view size = object.child_value("Size");
    ListedObject listed{.name = object.child_value("Key")};
    const auto number = std::from_chars(size.data(), size.data() + size.size(), listed.bytes);
    if (listed.name.empty() || number.ec != std::errc() ||
        number.ptr != size.data() + size.size()) {
      return Status(Code::kProtocol, "s3: a listing has an object without name or size");
    }
    page.objects.push_back(std::move(listed));
  }
  if (std::string_view(result.child_value("IsTruncated")) == "true") {
    page.next = result.child_value("NextContinuationToken");
    if (page.next.empty())
      return Status(Code::kProtocol, "s3: a listing goes on and does not say where");
  }
  return page;
}

}  // namespace baton::s3
