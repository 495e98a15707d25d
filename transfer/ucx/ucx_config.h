// The UCX channel's options.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "transfer/base/clock.h"

namespace baton::ucx {

struct UcxConfig {
  // What UCX may use, as UCX_TLS writes it ("tcp", "rc,cuda", "^shm"). By default all but shared
  // memory, which the local channel is for. What UCX does not have is an error, never replaced.
  // These two win over the environment's UCX_TLS and UCX_NET_DEVICES.
  std::string transports = "^shm,self";
  std::string devices;  // as UCX_NET_DEVICES writes it ("lo", "mlx5_0:1"); empty: all
  uint16_t port = 0;    // where it listens; 0: any free
  Duration open_deadline = std::chrono::seconds(2);
  // How long a channel that was force-closed waits for its last request before it says so and
  // leaves the memory with it. UCX needs microseconds.
  Duration close_deadline = std::chrono::seconds(2);
  // How long the progress thread looks again (with sched_yield) after something moved before it
  // blocks. Being woken costs some 30 µs.
  Duration spin = std::chrono::microseconds(50);
  size_t message_bytes = 1u << 20;      // over TCP; larger segments are cut
  size_t max_sending_bytes = 4u << 20;  // of a channel, given to UCX and not back yet
  size_t max_unconsumed_bytes = 16u
                                << 20;  // of a channel, received and held; two segments at least
};

}  // namespace baton::ucx
