// A disk that does what a test says: errors, short transfers, and I/O that hangs until it is let go
// on. What hangs has not happened yet: it lands when it is released, however much later.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "transfer/tiers/nvme/disk.h"
#include "transfer/tiers/nvme/slab_device.h"

namespace baton::fakes {

struct DiskFate {
  int error = 0;         // errno that it ends with
  uint32_t at_most = 0;  // bytes moved; 0: all
  bool hang = false;     // until release()
  static DiskFate fine() { return {}; }
  static DiskFate fails(int error) { return {.error = error}; }
  static DiskFate hangs() { return {.hang = true}; }
};

// What a test holds: shared by all the disks that it stands for.
struct DiskFaults {
  std::function<DiskFate(const nvme::Disk::Io&)> fate;
  std::vector<std::function<void()>> hanging;
  size_t reads = 0, writes = 0, flushes = 0;  // that were asked for
  uint64_t read_bytes = 0, written_bytes = 0;

  // What hangs goes on, and nothing hangs any more.
  void release() {
    fate = nullptr;
    for (const auto& go_on : std::exchange(hanging, {})) go_on();
  }
};

class FaultyDisk : public nvme::Disk {
 public:
  FaultyDisk(boost::asio::io_context& io, std::shared_ptr<DiskFaults> faults,
             std::unique_ptr<nvme::Disk> disk)
      : io_(io), faults_(std::move(faults)), disk_(std::move(disk)) {}

  uint32_t depth() const override { return disk_->depth(); }
  size_t memory_alignment() const override { return disk_->memory_alignment(); }
  void submit(const Io& io, Done done) override {
    count(io);
    const DiskFate fate = faults_->fate ? faults_->fate(io) : DiskFate::fine();
    if (fate.error != 0) {
      boost::asio::post(io_, [error = fate.error, done = std::move(done)] { done(-error); });
      return;
    }
    Io real = io;
    if (fate.at_most != 0 && fate.at_most < real.bytes) real.bytes = fate.at_most;
    if (fate.hang) {
      faults_->hanging.push_back([this, real, done = std::move(done)] {
        disk_->submit(real, done);
        disk_->start();
      });
      return;
    }
    disk_->submit(real, std::move(done));
  }
  void start() override { disk_->start(); }

 private:
  void count(const Io& io) {
    if (io.kind == Kind::kFlush) ++faults_->flushes;
    if (io.kind == Kind::kRead) ++faults_->reads, faults_->read_bytes += io.bytes;
    if (io.kind == Kind::kWrite) ++faults_->writes, faults_->written_bytes += io.bytes;
  }

  boost::asio::io_context& io_;
  const std::shared_ptr<DiskFaults> faults_;
  const std::unique_ptr<nvme::Disk> disk_;
};

inline nvme::Seams seams_of(std::shared_ptr<DiskFaults> faults) {
  return {.disk = [faults](boost::asio::io_context& io, const std::string&,
                           std::unique_ptr<nvme::Disk> disk) -> std::unique_ptr<nvme::Disk> {
    return std::make_unique<FaultyDisk>(io, faults, std::move(disk));
  }};
}

}  // namespace baton::fakes
