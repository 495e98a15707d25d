#include "transfer/base/bytes.h"

#include <charconv>
#include <string>

namespace baton {
namespace {

constexpr uint64_t kMost = uint64_t{1} << 50;

struct Unit {
  std::string_view name;
  uint64_t bytes;
};
constexpr Unit kUnits[] = {{"", 1},
                           {"B", 1},
                           {"KiB", 1u << 10},
                           {"MiB", 1u << 20},
                           {"GiB", 1u << 30},
                           {"TiB", uint64_t{1} << 40},
                           {"KB", 1'000},
                           {"MB", 1'000'000},
                           {"GB", 1'000'000'000},
                           {"TB", 1'000'000'000'000}};

}  // namespace

Result<uint64_t> parse_bytes(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  for (const Unit& known : kUnits)
    if (error == std::errc() && unit == known.name && number <= kMost / known.bytes)
      return number * known.bytes;
  return Status(Code::kInvalidArgument, "'" + std::string(text) +
                                            "' is no size: expected a number of bytes such as "
                                            "256MiB, at most 1024TiB");
}

}  // namespace baton
