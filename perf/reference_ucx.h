// What UCX does between the same two processes: one contiguous region in active messages of 4 MiB,
// over TCP, in one error mode. The floor of a handoff over ucx.
//
// Blocks, and progresses without pause meanwhile; externally synchronised.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"

namespace baton::bench {

enum class UcxErrors : uint8_t { kPeer, kNone };

class UcxStream {
 public:
  // kUnavailable where this build has no UCX, or UCX no TCP.
  static Result<std::unique_ptr<UcxStream>> create();
  virtual ~UcxStream() = default;

  // The worker's address, in hexadecimal digits.
  virtual std::string address() const = 0;
  virtual Status connect(const std::string& address, UcxErrors errors) = 0;
  // Returns when the memory is not read any more; the last of it may still be in the worker.
  virtual Status send_all(std::span<const std::byte> bytes) = 0;
  // What is in the worker goes on its way meanwhile.
  virtual Status work_until(const std::function<bool()>& condition) = 0;
  // Returns when all of it was written, and the sender can know: when the last of it was.
  virtual Result<TimePoint> receive_all(std::span<std::byte> bytes) = 0;
};

}  // namespace baton::bench
