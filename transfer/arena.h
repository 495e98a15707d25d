// One large region of host memory: a memfd, so that other processes of the host can map it
// read-only, pre-faulted, in the largest pages to be had.
//
// Thread safety: constant after creation.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "transfer/base/status.h"
#include "transfer/base/unique_fd.h"

namespace baton {

struct ArenaConfig {
  std::string name = "baton";  // shows in /proc/PID/maps
  size_t bytes = 0;            // rounded up to whole pages of the size obtained
  bool huge_pages = false;     // try hugetlb pages of 2 MiB first; falls back and says so
  bool prefault = true;        // first touch runs at a fortieth of memory speed: pay it at start
};

class Arena {
 public:
  // The memfd is sealed (SHRINK, GROW, FUTURE_WRITE): whoever gets the descriptor can map it
  // read-only and knows that it stays as long as it is. Errors: kInvalidArgument (zero bytes),
  // kInternal with errno.
  static Result<std::unique_ptr<Arena>> create(const ArenaConfig& config);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // Obtained, not asked for: 2 MiB where all of it but the end that fills no such page is in huge
  // pages. Without prefault nothing but hugetlb is known to be.
  size_t page_bytes() const { return page_bytes_; }
  int fd() const { return fd_.get(); }  // borrowed

 private:
  Arena(UniqueFd fd, std::byte* data, size_t bytes, size_t page_bytes);

  UniqueFd fd_;
  std::byte* data_;
  size_t bytes_;
  size_t page_bytes_;
};

// Another process's arena, mapped read-only.
class PeerArena {
 public:
  // Errors: kProtocol where the descriptor lacks the seals, is smaller than `bytes`, or `bytes` is
  // zero; kInternal with errno. The descriptor is closed; the mapping keeps the memory.
  static Result<std::unique_ptr<PeerArena>> map(UniqueFd fd, size_t bytes);
  ~PeerArena();
  PeerArena(const PeerArena&) = delete;
  PeerArena& operator=(const PeerArena&) = delete;

  const std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  PeerArena(const std::byte* data, size_t bytes, size_t mapped_bytes);

  const std::byte* data_;
  size_t bytes_;
  size_t mapped_bytes_;  // in whole pages
};

}  // namespace baton
