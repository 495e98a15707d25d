// Options of the tcp channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"

namespace baton::tcp {

struct TcpConfig {
  uint16_t port = 0;  // where lanes are accepted, at the control listener's host; 0: any free
  Duration open_deadline = std::chrono::seconds(2);
  // Connections of a channel. A segment takes the one with the least before it. Where there are
  // several, a handoff has segments on all but one of them at most, so that a small one does not
  // stand behind a large one. 1 to 16; the dialling side's number counts.
  uint16_t lanes = 2;
  // Segments that one lane holds, the one being written included: what more is ready waits where
  // the scheduler still chooses whose goes next. At least 1.
  uint32_t queued_segments = 2;
  // Bytes that the system may hold unsent for a lane, and that it may advertise as a lane's receive
  // window. Together they bound what is on its way when a small handoff comes. Larger for links
  // whose rate times round trip is larger; 0: as the system does by itself.
  uint32_t unsent_bytes = 1u << 20;
  uint32_t receive_window_bytes = 4u << 20;
  // Congestion control by the system's name ("cubic", "bbr", "reno"). Empty: cubic where both ends
  // are loopback addresses, where probing for a bottleneck only costs; else the system's own.
  std::string congestion;
  // Whether slots and engine's blocks are lent to the system instead of copied into the socket
  // (splice_pipe.h). It saves the sending core a copy; what cannot be lent is copied.
  bool zero_copy = true;
  // Memory for segments that cannot be received into the engine's blocks.
  size_t staged_bytes = 64u << 20;
};

// kInvalidArgument naming the option.
Status validate(const TcpConfig& config);

// Sets a connected lane's options. Only the congestion control's name can be wrong: the system's
// own is kept then, and a line in the log says so.
void set_lane_options(int socket, const TcpConfig& config, bool loopback);

}  // namespace baton::tcp
