// The kinds of channel that a node has, and which of them is used with a peer.
//
//   --channel | tried by the side that dials, in this order
//   ----------|---------------------------------------------------------------------
//   auto      | local, where the peer's abstract Unix socket can be connected to (same host)
//             | ucx, where both nodes' UCX has RDMA or the KV memory is a GPU's
//             | tcp
//   NAME      | that one and no other
//
// Only what both nodes have is tried. The side that is dialled takes whichever the dialler brings.
// What is used is logged with the reason, and written into answers and metrics.
//
// Confined to the progress thread.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "transfer/channel_endpoint.h"

namespace baton {

enum class ChannelChoice : uint8_t { kAuto, kLocal, kTcp, kUcx };

// "auto", "local", "tcp", "ucx". kInvalidArgument naming the text.
Result<ChannelChoice> parse_channel_choice(std::string_view text);
const char* channel_choice_name(ChannelChoice choice);

class Channels {
 public:
  // The endpoints in the order in which they are tried; at least one.
  Channels(ChannelIdentity identity, std::vector<std::unique_ptr<ChannelEndpoint>> endpoints);

  // Writes all kinds into our HELLO.
  void describe(protocol::Hello& hello) const;
  // Opens one channel to the peer, of the first kind that works. `done` runs once, not inside the
  // call; its error names every kind that was tried and why it failed.
  void open(const protocol::Hello& peer, bool dial, ChannelEvents& events,
            ChannelEndpoint::OpenDone done);
  // As ChannelEndpoint has it.
  void give_up(const ChannelEvents& events);
  void stop();

 private:
  struct Opening;

  const ChannelIdentity identity_;
  const std::vector<std::unique_ptr<ChannelEndpoint>> endpoints_;
  std::list<std::weak_ptr<Opening>> openings_;
};

}  // namespace baton
