// The file or block device that slabs lie on: opened by one process at a time, formatted where it
// is blank, refused where it is anything else than what the options say.
//
// Everything here blocks: it is for the start of a node.
//
// Thread safety: externally synchronised.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"
#include "transfer/tiers/nvme/slab_format.h"

namespace baton::nvme {

struct SlabFileConfig {
  std::string path;  // a file, made where there is none, or a block device
  uint64_t bytes = 0;
  uint64_t slab_bytes = 0;
  // How long to wait for another process to let go of it. A process that was killed holds it until
  // the writes that it had under way are over.
  Duration lock_patience = std::chrono::seconds(2);
};

class SlabFile {
 public:
  // Preallocates and formats what is blank (an empty file, or its first MiB all zeros). Errors:
  // kUnavailable where another process has it; kRefused naming both values where it holds something
  // else, another format version, or slabs of another size or number; kResourceExhausted where the
  // file system has no room for it; kInvalidArgument for a path that cannot be used.
  static Result<std::unique_ptr<SlabFile>> open(const SlabFileConfig& config);

  // What a device was formatted with; nothing where there is none, or it is blank. Errors as open().
  static Result<std::optional<uint64_t>> slab_bytes_of(const std::string& path);
  // Makes a slab's header a tombstone.
  Status bury(uint32_t slab, uint64_t generation);

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  const Superblock& superblock() const { return superblock_; }
  size_t memory_alignment() const { return memory_alignment_; }

 private:
  SlabFile() = default;
  Status open_and_lock(const SlabFileConfig& config);
  Status find_alignment();
  Status format(const SlabLayout& layout);
  Status check(const SlabLayout& expected) const;

  std::string path_;
  UniqueFd fd_;
  bool block_device_ = false;
  uint64_t size_ = 0;  // found when it was opened
  size_t memory_alignment_ = kBlockBytes;
  Superblock superblock_;
};

}  // namespace baton::nvme
