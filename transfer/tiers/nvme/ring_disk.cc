#include "transfer/tiers/nvme/ring_disk.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "transfer/base/check.h"
#include "transfer/base/log.h"
#include "transfer/base/text.h"

namespace baton::nvme {
namespace {

// The kernel's bounds: bytes of a registered buffer, and how many there are of them.
constexpr size_t kMaxRegisteredBytes = size_t{1} << 30;
constexpr size_t kMaxRegistered = 1u << 14;

#ifndef IORING_SETUP_SINGLE_ISSUER  // Linux 6.0
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN  // Linux 6.1
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

class Uring {
 public:
  Uring() = default;
  ~Uring() {
    if (ready_) io_uring_queue_exit(&ring_);
  }
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // Returns errno. Completions are made when we ask for them, by the one thread that submits, where
  // the kernel knows that; disabled at first, so that this need not be the thread that creates it.
  int open(uint32_t depth) {
    const unsigned kinds[] = {
        IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_R_DISABLED};
    int rc = -EINVAL;
    for (const unsigned flags : kinds) {
      io_uring_params params{};
      params.flags = flags;
      rc = io_uring_queue_init_params(depth, &ring_, &params);
      deferred_ = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
      if (rc != -EINVAL) break;
    }
    ready_ = rc == 0;
    return -rc;
  }
  // Returns errno. By hand: liburing 2.3's library does not export its function for it.
  int enable() {
    const long rc =
        syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    return rc < 0 ? errno : 0;
  }
  io_uring* get() { return &ring_; }
  bool deferred() const { return deferred_; }

 private:
  io_uring ring_{};
  bool ready_ = false;
  bool deferred_ = false;
};

class RingState : public std::enable_shared_from_this<RingState> {
 public:
  RingState(boost::asio::io_context& io, int fd, const RingConfig& config)
      : io_(io), fd_(fd), config_(config), events_(io), retry_(io), entries_(config.depth) {
    for (uint32_t i = 0; i < config.depth; ++i) free_.push_back(config.depth - 1 - i);
  }

  Status open() {
    if (const int error = ring_.open(config_.depth); error != 0) {
      return Status(
          Code::kUnavailable,
          Status::from_errno("io_uring", error).message() +
              ": this process may not use it; allow its system calls (the container's seccomp "
              "profile, sysctl kernel.io_uring_disabled=0), or go without the NVMe tier",
          error);
    }
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) return Status::from_errno("eventfd", errno);
    events_.assign(event);
    if (const int rc = io_uring_register_eventfd(ring_.get(), event); rc != 0)
      return Status::from_errno("io_uring: register the eventfd", -rc);
    register_memory();
    return ok_status();
  }

  void close() {
    BATON_CHECK(under_way_ == 0, "a disk is destroyed while the device may touch memory");
    closed_ = true;
    boost::system::error_code ignored;
    events_.close(ignored);
    retry_.cancel();
  }

  void submit(const Disk::Io& io, Disk::Done done) {
    BATON_CHECK(!free_.empty(), "more under way than the disk's depth");
    const uint32_t entry = free_.back();
    free_.pop_back();
    entries_[entry] = std::move(done);
    ++under_way_;
    io_uring_sqe* const sqe = io_uring_get_sqe(ring_.get());
    BATON_CHECK(sqe != nullptr, "a ring smaller than its depth");
    prepare(sqe, io);
    io_uring_sqe_set_data64(sqe, entry);
  }

  void start() {
    if (!enabled_) {
      enabled_ = true;
      const int error = ring_.enable();
      BATON_CHECK(error == 0, Status::from_errno("io_uring: enable", error).message());
      wait();
    }
    const int rc = io_uring_submit(ring_.get());
    if (rc == -EINTR || rc == -EAGAIN || rc == -EBUSY) return start_later();
    BATON_CHECK(rc >= 0, Status::from_errno("io_uring: submit", -rc).message());
  }

 private:
  void register_memory() {
    if (config_.memory.empty() || config_.unit == 0 || config_.unit > kMaxRegisteredBytes) return;
    piece_ = kMaxRegisteredBytes / config_.unit * config_.unit;
    std::vector<iovec> pieces;
    for (size_t at = 0; at < config_.memory.size() && pieces.size() < kMaxRegistered; at += piece_)
      pieces.push_back({config_.memory.data() + at, std::min(piece_, config_.memory.size() - at)});
    const int rc =
        io_uring_register_buffers(ring_.get(), pieces.data(), static_cast<unsigned>(pieces.size()));
    if (rc == 0) {
      registered_ = pieces.size();
      return;
    }
    log::info(
        "nvme: the slots' memory is not registered with io_uring, each read and write pins its own "
        "part bytes={} why='{}'",
        config_.memory.size(),
        Status::from_errno(rc == -ENOMEM ? "more than the limit of locked memory (ulimit -l)" : "",
                           -rc)
            .message());
  }

  // Which registered piece holds all of this; -1: none does.
  int registered_piece(const std::byte* data, size_t bytes) const {
    if (registered_ == 0 || data < config_.memory.data()) return -1;
    const auto at = static_cast<size_t>(data - config_.memory.data());
    if (at >= config_.memory.size() || bytes > config_.memory.size() - at) return -1;
    const size_t piece = at / piece_;
    if (piece >= registered_ || (at + bytes - 1) / piece_ != piece) return -1;
    return static_cast<int>(piece);
  }

  void prepare(io_uring_sqe* sqe, const Disk::Io& io) {
    if (io.kind == Disk::Kind::kFlush) return io_uring_prep_fsync(sqe, fd_, IORING_FSYNC_DATASYNC);
    const int piece = registered_piece(io.data, io.bytes);
    if (io.kind == Disk::Kind::kRead) {
      piece >= 0 ? io_uring_prep_read_fixed(sqe, fd_, io.data, io.bytes, io.offset, piece)
                 : io_uring_prep_read(sqe, fd_, io.data, io.bytes, io.offset);
      return;
    }
    piece >= 0 ? io_uring_prep_write_fixed(sqe, fd_, io.data, io.bytes, io.offset, piece)
               : io_uring_prep_write(sqe, fd_, io.data, io.bytes, io.offset);
  }

  // The kernel has no memory for more just now: what was not taken is offered again.
  void start_later() {
    if (retrying_) return;
    retrying_ = true;
    retry_.expires_after(std::chrono::milliseconds(1));
    retry_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      self->retrying_ = false;
      if (!error && !self->closed_) self->start();
    });
  }

  void wait() {
    events_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (error || self->closed_) return;
                         uint64_t count;
                         [[maybe_unused]] const ssize_t got =
                             ::read(self->events_.native_handle(), &count, sizeof count);
                         self->complete_one();
                       });
  }

  void complete_one() {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(ring_.get(), &cqe) != 0 || cqe == nullptr) {
      if (ring_.deferred()) io_uring_get_events(ring_.get());
      if (io_uring_peek_cqe(ring_.get(), &cqe) != 0 || cqe == nullptr) return wait();
    }
    const auto entry = static_cast<uint32_t>(io_uring_cqe_get_data64(cqe));
    const int32_t result = cqe->res;
    io_uring_cqe_seen(ring_.get(), cqe);
    const Disk::Done done = std::exchange(entries_[entry], nullptr);
    free_.push_back(entry);
    --under_way_;
    // Before the callback: it may destroy the disk.
    boost::asio::post(io_, [self = shared_from_this()] {
      if (!self->closed_) self->complete_one();
    });
    done(result);
  }

  boost::asio::io_context& io_;
  const int fd_;
  const RingConfig config_;
  Uring ring_;
  boost::asio::posix::stream_descriptor events_;
  boost::asio::steady_timer retry_;
  std::vector<Disk::Done> entries_;  // of those under way
  std::vector<uint32_t> free_;
  uint32_t under_way_ = 0;
  size_t piece_ = 0;  // bytes of each registered buffer but the last
  size_t registered_ = 0;
  bool enabled_ = false;
  bool retrying_ = false;
  bool closed_ = false;
};

class RingDiskImpl : public Disk {
 public:
  RingDiskImpl(std::shared_ptr<RingState> state, const RingConfig& config)
      : state_(std::move(state)), config_(config) {}
  ~RingDiskImpl() override { state_->close(); }

  uint32_t depth() const override { return config_.depth; }
  size_t memory_alignment() const override { return config_.memory_alignment; }
  void submit(const Io& io, Done done) override { state_->submit(io, std::move(done)); }
  void start() override { state_->start(); }

 private:
  const std::shared_ptr<RingState> state_;
  const RingConfig config_;
};

}  // namespace

Result<std::unique_ptr<Disk>> RingDisk::create(boost::asio::io_context& io, int fd,
                                               const RingConfig& config) {
  auto state = std::make_shared<RingState>(io, fd, config);
  BATON_RETURN_IF_ERROR(state->open());
  return std::unique_ptr<Disk>(std::make_unique<RingDiskImpl>(std::move(state), config));
}

}  // namespace baton::nvme
