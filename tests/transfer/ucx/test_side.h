// A node's end of ucx channels, over UCX's TCP on loopback.
#pragma once

#include "tests/transfer/channel_side.h"
#include "transfer/ucx/ucx_endpoint.h"

namespace baton::ucx::testing {

using namespace baton::testing;

// Larger than other channels' tests have: a message of UCX's is larger than a packet of its.
inline constexpr size_t kTransitBytes = 256 << 10;
inline constexpr size_t kRetainedBytes = 1 << 20;

inline UcxConfig loopback(UcxConfig config = {}) {
  config.devices = "lo";
  return config;
}

struct Side : ChannelSide {
  Side(boost::asio::io_context& io, uint64_t incarnation, UcxConfig config = {},
       size_t transit_slots = 4, std::shared_ptr<ChannelSessions> sessions = nullptr)
      : ChannelSide(incarnation, transit_slots, std::move(sessions)) {
    transit = make_pool(kTransitBytes, transit_slots);
    retained = make_pool(kRetainedBytes, 4);
    auto created = UcxEndpoint::create(io, loopback(config), "127.0.0.1", identity(),
                                       ChannelMemory::create(io, transit, retained));
    EXPECT_TRUE(created.ok()) << created.status().to_string();
    ucx = created->get();
    endpoint = std::move(*created);
  }
  UcxEndpoint* ucx = nullptr;  // the endpoint, as what it is
};

}  // namespace baton::ucx::testing
