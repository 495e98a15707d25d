#include "perf/gpu.h"

#include <charconv>

namespace baton::bench {

Result<std::optional<uint32_t>> parse_memory(std::string_view text) {
  if (text == "host") return std::optional<uint32_t>();
  if (text == "cuda") return std::optional<uint32_t>(0);
  constexpr std::string_view kPrefix = "cuda:";
  uint32_t device = 0;
  if (text.starts_with(kPrefix)) {
    const char* const end = text.data() + text.size();
    const auto [after, error] = std::from_chars(text.data() + kPrefix.size(), end, device);
    if (error == std::errc() && after == end) return std::optional<uint32_t>(device);
  }
  return Status(Code::kInvalidArgument,
                "--memory is '" + std::string(text) + "': expected host, cuda or cuda:N");
}

std::string memory_text(const std::optional<uint32_t>& cuda_device) {
  return cuda_device ? "cuda:" + std::to_string(*cuda_device) : "host";
}

}  // namespace baton::bench
