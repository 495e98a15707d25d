#include "transfer/tiers/nvme/slab_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <thread>
#include <utility>

#include "transfer/base/ids.h"
#include "transfer/base/log.h"
#include "transfer/base/text.h"
#include "transfer/base/token.h"
#include "transfer/tiers/nvme/block_buffer.h"

namespace baton::nvme {
namespace {

// What must be zero for a device to be taken for blank: file systems and volume managers that leave
// the first block alone write something behind it.
constexpr size_t kBlankBytes = size_t{1} << 20;
constexpr Duration kLockPoll = std::chrono::milliseconds(10);

Status refused(const std::string& path, const std::string& why) {
  return Status(Code::kRefused,
                path + ": " + why + "; name another path, or remove or wipe this one");
}

Status with_path(const std::string& path, const Status& status) {
  return Status(status.code(), path + ": " + status.message(), status.native());
}

// Whole blocks; a file that ends before is an error.
Status read_blocks(int fd, uint64_t offset, std::byte* data, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    const ssize_t got = pread(fd, data + at, bytes - at, static_cast<off_t>(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::from_errno("read at " + number(offset + at), errno);
    if (got == 0) return Status(Code::kInternal, "ends at " + number(offset + at) + " bytes");
    at += static_cast<size_t>(got);
  }
  return ok_status();
}

Status write_blocks(int fd, uint64_t offset, const std::byte* data, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    const ssize_t put = pwrite(fd, data + at, bytes - at, static_cast<off_t>(offset + at));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0)
      return Status::from_errno("write at " + number(offset + at), put < 0 ? errno : EIO);
    at += static_cast<size_t>(put);
  }
  return ok_status();
}

Status lock(int fd, Duration patience) {
  const TimePoint deadline = now() + patience;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return Status::from_errno("lock", errno);
    if (now() >= deadline)
      return Status(Code::kUnavailable, "another process has it open; a path serves one node");
    std::this_thread::sleep_for(kLockPoll);
  }
  return ok_status();
}

Status preallocate(int fd, uint64_t bytes) {
  int rc;
  do {
    rc = fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (rc != 0 && errno == EINTR);
  if (rc == 0) return ok_status();
  const int error = errno;
  if (error == EOPNOTSUPP) {
    log::warn("nvme: this file system does not preallocate: a store may find it full later");
    if (ftruncate(fd, static_cast<off_t>(bytes)) == 0) return ok_status();
    return Status::from_errno("set the size to " + number(bytes), errno);
  }
  // What it did allocate goes back.
  if (ftruncate(fd, 0) != 0) log::warn("nvme: what was allocated of the file stays");
  Status status = Status::from_errno("preallocate " + number(bytes) + " bytes", error);
  if (error != ENOSPC && error != EDQUOT && error != EFBIG) return status;
  return Status(Code::kResourceExhausted, status.message(), error);
}

Status sync_folder_of(const std::string& path) {
  const std::string folder = std::filesystem::absolute(path).parent_path();
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return Status::from_errno("sync " + folder, errno);
  return ok_status();
}

}  // namespace

Result<std::unique_ptr<SlabFile>> SlabFile::open(const SlabFileConfig& config) {
  const auto expected = SlabLayout::fit(config.bytes, config.slab_bytes);
  if (!expected.ok()) return with_path(config.path, expected.status());
  std::unique_ptr<SlabFile> file(new SlabFile);
  file->path_ = config.path;
  BATON_RETURN_IF_ERROR(file->open_and_lock(config));
  BATON_RETURN_IF_ERROR(file->find_alignment());

  BlockBuffer head(std::min<uint64_t>(kBlankBytes, whole_blocks(file->size_)));
  const size_t there = std::min<uint64_t>(head.bytes(), file->size_ / kBlockBytes * kBlockBytes);
  if (there > 0) {
    const Status read = read_blocks(file->fd(), 0, head.data(), there);
    if (!read.ok()) return with_path(config.path, read);
  }
  const bool odd = there == 0 && file->size_ > 0;  // less than a block: not ours
  const bool blank = !odd && std::all_of(head.data(), head.data() + there,
                                         [](std::byte each) { return each == std::byte{0}; });
  if (blank) {
    const Status formatted = file->format(*expected);
    if (!formatted.ok()) return with_path(config.path, formatted);
    return file;
  }
  if (odd)
    return refused(config.path, "it has " + number(file->size_) + " bytes of something else");
  const auto superblock = decode_superblock(head.block());
  if (!superblock.ok()) return refused(config.path, superblock.status().message());
  file->superblock_ = *superblock;
  BATON_RETURN_IF_ERROR(file->check(*expected));
  return file;
}

Result<std::optional<uint64_t>> SlabFile::slab_bytes_of(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT) return std::optional<uint64_t>();
    return Status::from_errno(path, errno);
  }
  Block head{};
  const ssize_t there = ::pread(fd.get(), head.data(), head.size(), 0);
  if (there < 0) return Status::from_errno(path, errno);
  const bool blank =
      std::all_of(head.begin(), head.end(), [](std::byte each) { return each == std::byte{0}; });
  if (blank) return std::optional<uint64_t>();
  const auto superblock = decode_superblock(head);
  if (!superblock.ok()) return refused(path, superblock.status().message());
  return std::optional<uint64_t>(superblock->layout.slab_bytes);
}

Status SlabFile::bury(uint32_t slab, uint64_t generation) {
  const BlockBuffer block(kBlockBytes);
  encode(Tombstone{generation}, superblock_.uuid, slab, block.block());
  return write_blocks(fd(), superblock_.layout.header_offset(slab), block.data(), kBlockBytes);
}

Status SlabFile::open_and_lock(const SlabFileConfig& config) {
  struct stat found {};
  block_device_ = ::stat(path_.c_str(), &found) == 0 && S_ISBLK(found.st_mode);
  // O_EXCL of a block device: not while it is mounted or part of a volume.
  const int flags = O_RDWR | O_CLOEXEC | O_DIRECT | (block_device_ ? O_EXCL : O_CREAT);
  fd_.reset(::open(path_.c_str(), flags, 0600));
  if (!fd_.valid()) {
    const int error = errno;
    const Status why = Status::from_errno(path_, error);
    const char* const hint = error == EINVAL ? " (its file system has no direct I/O)" : "";
    return Status(Code::kInvalidArgument, why.message() + hint, error);
  }
  if (fstat(fd(), &found) != 0) return Status::from_errno(path_, errno);
  if (!S_ISREG(found.st_mode) && !S_ISBLK(found.st_mode))
    return Status(Code::kInvalidArgument, path_ + " is neither a file nor a block device");
  const Status locked = lock(fd(), config.lock_patience);
  if (!locked.ok()) return with_path(path_, locked);
  // The size as it is now that nobody else formats it.
  if (fstat(fd(), &found) != 0) return Status::from_errno(path_, errno);
  size_ = static_cast<uint64_t>(found.st_size);
  if (block_device_) {
    if (ioctl(fd(), BLKGETSIZE64, &size_) != 0) return Status::from_errno(path_, errno);
    if (size_ < config.bytes) {
      return Status(Code::kInvalidArgument,
                    path_ + " has " + number(size_) + " bytes, asked for " + number(config.bytes));
    }
  }
  return ok_status();
}

Status SlabFile::find_alignment() {
#ifdef STATX_DIOALIGN  // Linux 6.1
  struct statx found {};
  if (statx(fd(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &found) != 0) return ok_status();
  if ((found.stx_mask & STATX_DIOALIGN) == 0 || found.stx_dio_mem_align == 0) return ok_status();
  if (found.stx_dio_offset_align > kBlockBytes || found.stx_dio_mem_align > kBlockBytes) {
    return Status(Code::kInvalidArgument,
                  path_ + " wants direct I/O in units of " +
                      number(std::max(found.stx_dio_offset_align, found.stx_dio_mem_align)) +
                      " bytes, the format has " + number(kBlockBytes));
  }
  memory_alignment_ = found.stx_dio_mem_align;
#endif
  return ok_status();
}

Status SlabFile::format(const SlabLayout& layout) {
  superblock_.layout = layout;
  const Digest random = random_digest();
  std::copy_n(random.begin(), superblock_.uuid.size(), superblock_.uuid.begin());
  if (!block_device_) BATON_RETURN_IF_ERROR(preallocate(fd(), layout.bytes()));
  // Last: what was interrupted before is blank still. Headers of an earlier formatting carry
  // another uuid, and are nothing to this one.
  const BlockBuffer block(kBlockBytes);
  encode(superblock_, block.block());
  BATON_RETURN_IF_ERROR(write_blocks(fd(), 0, block.data(), kBlockBytes));
  if (fsync(fd()) != 0) return Status::from_errno("sync", errno);
  if (!block_device_) BATON_RETURN_IF_ERROR(sync_folder_of(path_));
  log::info("nvme: formatted path={} bytes={} slabs={} slab_bytes={}", path_, layout.bytes(),
            layout.slabs, layout.slab_bytes);
  return ok_status();
}

Status SlabFile::check(const SlabLayout& expected) const {
  const SlabLayout& found = superblock_.layout;
  if (found.slab_bytes != expected.slab_bytes) {
    return refused(
        path_, differs("the slab size", expected.slab_bytes, found.slab_bytes, "on the device"));
  }
  if (found.slabs != expected.slabs)
    return refused(path_,
                   differs("the number of slabs", expected.slabs, found.slabs, "on the device"));
  if (size_ < found.bytes()) {
    return refused(
        path_, "it has " + number(size_) + " bytes, its superblock says " + number(found.bytes()));
  }
  return ok_status();
}

}  // namespace baton::nvme
