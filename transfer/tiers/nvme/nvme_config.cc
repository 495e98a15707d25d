#include "transfer/tiers/nvme/nvme_config.h"

#include <set>

#include "transfer/base/bytes.h"
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

}  // namespace

Result<NvmeDevice> NvmeDevice::parse(std::string_view text) {
  const auto wrong = [text](const char* why) {
    return Status(Code::kInvalidArgument, "'" + std::string(text) + "' is no PATH:SIZE (" + why +
                                              "): expected such as /data/baton.kv:200GiB");
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return wrong("there is no path and size");
  const Result<uint64_t> bytes = parse_bytes(text.substr(colon + 1));
  if (!bytes.ok() || *bytes == 0) return wrong("the size is no number of bytes above 0");
  return NvmeDevice{std::string(text.substr(0, colon)), *bytes};
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
