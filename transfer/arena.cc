#include "transfer/arena.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "transfer/base/log.h"

#ifndef MADV_POPULATE_WRITE  // Linux 5.14; newer than the C library's headers
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE  // Linux 6.1
#define MADV_COLLAPSE 25
#endif

namespace baton {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr int kRequiredSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

size_t system_page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

// The caller sees to it that the sum does not overflow.
size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// A shared mapping, unmapped unless released.
class Mapping {
 public:
  Mapping(void* address, size_t bytes) : address_(address), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), bytes_(other.bytes_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (address_ != nullptr) munmap(address_, bytes_);
  }
  void* get() const { return address_; }
  void* release() { return std::exchange(address_, nullptr); }

 private:
  void* address_;
  size_t bytes_;
};

// Maps the file's first `bytes`, whole pages of it. Large regions begin on a multiple of 2 MiB: the
// kernel puts huge pages of a shared mapping only where address and file offset agree modulo their
// size.
Result<Mapping> map_shared(int fd, size_t bytes, int protection, const char* what) {
  const size_t slack = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  void* reserved =
      mmap(nullptr, bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return Status::from_errno(std::string(what) + ": reserve address space", errno);
  }
  auto* const begin = static_cast<std::byte*>(reserved);
  std::byte* start = begin;
  if (slack != 0) {
    const auto address = reinterpret_cast<uintptr_t>(begin);
    start = begin + (round_up(address, kHugePageBytes) - address);
  }
  void* mapped = mmap(start, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    munmap(reserved, bytes + slack);
    return Status::from_errno(std::string(what) + ": map", error);
  }
  const size_t before = static_cast<size_t>(start - begin);
  if (before > 0) munmap(begin, before);
  if (slack > before) munmap(start + bytes, slack - before);
  return Mapping(mapped, bytes);
}

Status seal(int fd) {
  if (fcntl(fd, F_ADD_SEALS, kRequiredSeals | F_SEAL_SEAL) != 0) {
    return Status::from_errno("arena: seal", errno);
  }
  // Kernels before 5.13 accept FUTURE_WRITE on hugetlb files and then do not enforce it.
  void* probe = mmap(nullptr, kHugePageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (probe != MAP_FAILED) {
    munmap(probe, kHugePageBytes);
    return Status(Code::kInternal, "arena: the kernel does not enforce F_SEAL_FUTURE_WRITE");
  }
  return ok_status();
}

void touch(std::byte* data) { *reinterpret_cast<volatile std::byte*>(data) = std::byte{0}; }

// Makes huge pages of the whole multiples of 2 MiB, and so faults them in, as far as the kernel has
// any: it does that on this explicit request even where shmem_enabled is "never". To clear one huge
// page is also several times faster than to fault in 512 small ones (256 MiB: 20 ms, not 170).
void collapse(std::byte* data, size_t bytes) {
  // In pieces: when memory is too fragmented, each try costs a search for a free huge page.
  constexpr size_t kPiece = 16 * kHugePageBytes;
  const size_t whole = bytes / kHugePageBytes * kHugePageBytes;
  for (size_t at = 0; at < whole; at += kPiece) {
    const size_t piece = std::min(kPiece, whole - at);
    // A range without any page is refused.
    for (size_t page = 0; page < piece; page += kHugePageBytes) touch(data + at + page);
    if (madvise(data + at, piece, MADV_COLLAPSE) != 0) return;
  }
}

Status prefault(std::byte* data, size_t bytes, size_t page_bytes) {
  int rc;
  do {
    rc = madvise(data, bytes, MADV_POPULATE_WRITE);
  } while (rc != 0 && (errno == EINTR || errno == EAGAIN));
  if (rc == 0) return ok_status();
  if (errno != EINVAL) return Status::from_errno("arena: prefault", errno);
  // The kernel is older than 5.14: touch every page.
  for (size_t at = 0; at < bytes; at += page_bytes) touch(data + at);
  return ok_status();
}

// Bytes of the mapping that begins at `address` for which the kernel uses 2 MiB pages.
size_t huge_mapped_bytes(const void* address) {
  std::FILE* smaps = std::fopen("/proc/self/smaps", "re");
  if (smaps == nullptr) return 0;
  char line[512];
  bool ours = false;
  size_t kib = 0;
  while (std::fgets(line, sizeof line, smaps) != nullptr) {
    uintptr_t begin, end;
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
      if (ours) break;
      ours = begin == reinterpret_cast<uintptr_t>(address);
    } else if (ours && std::sscanf(line, "ShmemPmdMapped: %zu kB", &kib) == 1) {
      break;
    }
  }
  std::fclose(smaps);
  return kib * 1024;
}

struct Region {
  UniqueFd fd;
  Mapping mapping;
  size_t bytes;
  size_t page_bytes;
};

Result<Region> create_region(const ArenaConfig& config, bool hugetlb) {
  const size_t unit = hugetlb ? kHugePageBytes : system_page_bytes();
  const size_t bytes = round_up(config.bytes, unit);
  const unsigned flags =
      MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0u);
  UniqueFd fd(memfd_create(config.name.c_str(), flags));
  if (!fd.valid()) return Status::from_errno("arena: memfd_create", errno);
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return Status::from_errno("arena: ftruncate to " + std::to_string(bytes) + " bytes", errno);
  }
  BATON_ASSIGN_OR_RETURN(Mapping mapping,
                         map_shared(fd.get(), bytes, PROT_READ | PROT_WRITE, "arena"));
  BATON_RETURN_IF_ERROR(seal(fd.get()));

  auto* const data = static_cast<std::byte*>(mapping.get());
  size_t page_bytes = unit;
  // Has an effect only where /sys/kernel/mm/transparent_hugepage/shmem_enabled allows it.
  if (!hugetlb) madvise(data, bytes, MADV_HUGEPAGE);
  if (config.prefault) {
    if (!hugetlb) collapse(data, bytes);
    BATON_RETURN_IF_ERROR(prefault(data, bytes, unit));
    // The end that does not fill a huge page is always in small ones.
    const size_t whole = bytes / kHugePageBytes * kHugePageBytes;
    if (!hugetlb && whole > 0 && huge_mapped_bytes(data) >= whole) page_bytes = kHugePageBytes;
  }
  return Region{std::move(fd), std::move(mapping), bytes, page_bytes};
}

}  // namespace

Arena::Arena(UniqueFd fd, std::byte* data, size_t bytes, size_t page_bytes)
    : fd_(std::move(fd)), data_(data), bytes_(bytes), page_bytes_(page_bytes) {}

Arena::~Arena() { munmap(data_, bytes_); }

Result<std::unique_ptr<Arena>> Arena::create(const ArenaConfig& config) {
  // Rounding and alignment add less than two huge pages.
  constexpr size_t kMaxBytes = static_cast<size_t>(INT64_MAX) - 2 * kHugePageBytes;
  if (config.bytes == 0 || config.bytes > kMaxBytes) {
    return Status(Code::kInvalidArgument, "arena: cannot have " + std::to_string(config.bytes) +
                                              " bytes: expected 1 to " + std::to_string(kMaxBytes));
  }
  Result<Region> region = create_region(config, config.huge_pages);
  if (!region.ok() && config.huge_pages) {
    log::warn(
        "no hugetlb pages of 2 MiB for the arena, using ordinary pages arena={} bytes={} why='{}'",
        config.name, config.bytes, region.status().message());
    region = create_region(config, false);
  }
  if (!region.ok()) return region.status();
  log::info("arena ready arena={} bytes={} page_bytes={} prefault={}", config.name, region->bytes,
            region->page_bytes, config.prefault);
  auto* const data = static_cast<std::byte*>(region->mapping.release());
  return std::unique_ptr<Arena>(
      new Arena(std::move(region->fd), data, region->bytes, region->page_bytes));
}

PeerArena::PeerArena(const std::byte* data, size_t bytes, size_t mapped_bytes)
    : data_(data), bytes_(bytes), mapped_bytes_(mapped_bytes) {}

PeerArena::~PeerArena() { munmap(const_cast<std::byte*>(data_), mapped_bytes_); }

Result<std::unique_ptr<PeerArena>> PeerArena::map(UniqueFd fd, size_t bytes) {
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kRequiredSeals) != kRequiredSeals) {
    return Status(Code::kProtocol,
                  "peer arena: the descriptor is not a memfd sealed against shrinking, growing and "
                  "new writers (seals " +
                      std::to_string(seals) + ", expected " + std::to_string(kRequiredSeals) + ")",
                  seals < 0 ? errno : 0);
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return Status::from_errno("peer arena: fstat", errno);
  if (bytes == 0 || static_cast<uint64_t>(info.st_size) < bytes) {
    return Status(Code::kProtocol, "peer arena: " + std::to_string(bytes) +
                                       " bytes announced, the descriptor has " +
                                       std::to_string(info.st_size));
  }
  // hugetlb mappings are made and unmade in whole pages; st_blksize is the page there.
  const size_t mapped = round_up(bytes, static_cast<size_t>(info.st_blksize));
  BATON_ASSIGN_OR_RETURN(Mapping mapping, map_shared(fd.get(), mapped, PROT_READ, "peer arena"));
  const auto* const data = static_cast<const std::byte*>(mapping.release());
  return std::unique_ptr<PeerArena>(new PeerArena(data, bytes, mapped));
}

}  // namespace baton
