// A node's end of local channels.
#pragma once

#include "tests/transfer/channel_side.h"
#include "transfer/local/local_endpoint.h"

namespace baton::local::testing {

using namespace baton::testing;

struct Side : ChannelSide {
  Side(boost::asio::io_context& io, uint64_t incarnation, LocalConfig config = {},
       size_t transit_slots = 4, std::shared_ptr<ChannelSessions> sessions = nullptr)
      : ChannelSide(incarnation, transit_slots, std::move(sessions)) {
    auto created =
        LocalEndpoint::create(io, config, identity(), ChannelMemory::create(io, transit, retained));
    EXPECT_TRUE(created.ok()) << created.status().to_string();
    endpoint = std::move(*created);
  }
};

}  // namespace baton::local::testing
