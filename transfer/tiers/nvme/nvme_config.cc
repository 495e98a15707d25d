#include "transfer/tiers/nvme/nvme_config.h"

#include <charconv>
#include <optional>
#include <set>
#include <utility>

#include "transfer/base/text.h"
#include "transfer/tiers/nvme/slab_format.h"

namespace baton {
namespace {

Status invalid(const std::string& what) {
  return Status(Code::kInvalidArgument, "the NVMe tier: " + what);
}

Status check_count(const char* option, uint64_t value, uint64_t most) {
  if (value >= 1 && value <= most) return ok_status();
  return invalid(std::string(option) + " is " + number(value) + ": expected 1 to " + number(most));
}

std::optional<uint64_t> unit_of(std::string_view suffix) {
  constexpr std::pair<std::string_view, uint64_t> kUnits[] = {{"", 1},
                                                              {"KiB", uint64_t{1} << 10},
                                                              {"MiB", uint64_t{1} << 20},
                                                              {"GiB", uint64_t{1} << 30},
                                                              {"TiB", uint64_t{1} << 40}};
  for (const auto& [name, bytes] : kUnits) {
    if (name == suffix) return bytes;
  }
  return std::nullopt;
}

}  // namespace

Result<NvmeDevice> NvmeDevice::parse(std::string_view text) {
  const auto wrong = [text](const char* why) {
    return Status(Code::kInvalidArgument, "'" + std::string(text) + "' is no PATH:SIZE (" + why +
                                              "): expected such as /data/baton.kv:200GiB");
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return wrong("there is no path and size");
  const std::string_view size = text.substr(colon + 1);
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), count);
  if (error != std::errc() || count == 0) return wrong("the size is no number above 0");
  const auto unit = unit_of(size.substr(static_cast<size_t>(end - size.data())));
  if (!unit) return wrong("sizes end in KiB, MiB, GiB, TiB or nothing");
  if (count > INT64_MAX / *unit) return wrong("the size is too large");
  return NvmeDevice{std::string(text.substr(0, colon)), count * *unit};
}

uint64_t slab_bytes_for(uint32_t layers, uint64_t segment_bytes) {
  return layers * nvme::whole_blocks(segment_bytes);
}

Status validate(const NvmeConfig& config) {
  if (config.devices.empty()) return invalid("no device is named");
  std::set<std::string> paths;
  for (const NvmeDevice& device : config.devices) {
    if (!paths.insert(device.path).second) return invalid(device.path + " is named twice");
  }
  if (config.slab_bytes == 0 || config.slab_bytes % nvme::kBlockBytes != 0) {
    return invalid("slab_bytes is " + number(config.slab_bytes) + ": expected a multiple of " +
                   number(nvme::kBlockBytes));
  }
  BATON_RETURN_IF_ERROR(check_count("depth", config.depth, 4096));
  BATON_RETURN_IF_ERROR(check_count("max_stores", config.max_stores, UINT16_MAX));
  BATON_RETURN_IF_ERROR(check_count("max_reads", config.max_reads, UINT16_MAX));
  if (config.io_bytes < nvme::kBlockBytes || config.io_bytes % nvme::kBlockBytes != 0 ||
      config.io_bytes > (1u << 30)) {
    return invalid("io_bytes is " + number(config.io_bytes) + ": expected a multiple of " +
                   number(nvme::kBlockBytes) + " up to 1 GiB");
  }
  return ok_status();
}

}  // namespace baton
