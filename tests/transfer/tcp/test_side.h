// A node's end of tcp channels.
#pragma once

#include "tests/transfer/channel_side.h"
#include "transfer/tcp/tcp_endpoint.h"

namespace baton::tcp::testing {

using namespace baton::testing;

struct Side : ChannelSide {
  Side(boost::asio::io_context& io, uint64_t incarnation, TcpConfig config = {},
       size_t transit_slots = 4, std::shared_ptr<ChannelSessions> sessions = nullptr)
      : ChannelSide(incarnation, transit_slots, std::move(sessions)) {
    auto created = TcpEndpoint::create(io, config, "127.0.0.1", identity(),
                                       ChannelMemory::create(io, transit, retained));
    EXPECT_TRUE(created.ok()) << created.status().to_string();
    port = (*created)->port();
    endpoint = std::move(*created);
  }
  uint16_t port = 0;
};

}  // namespace baton::tcp::testing
