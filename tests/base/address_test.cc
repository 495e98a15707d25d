#include "transfer/base/address.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

TEST(HostPort, ParsesNamesAndBothFamilies) {
  EXPECT_EQ(HostPort::parse("127.0.0.1:7001").value(), (HostPort{"127.0.0.1", 7001}));
  EXPECT_EQ(HostPort::parse("[::1]:0").value(), (HostPort{"::1", 0}));
  EXPECT_EQ(HostPort::parse("[::1]:7001")->to_string(), "[::1]:7001");
  EXPECT_EQ(HostPort::parse("node-3:65535")->to_string(), "node-3:65535");
}

TEST(HostPort, RefusesAndNamesTheValue) {
  for (const char* text : {"", "host", ":1", "host:", "host:65536", "host:-1", "host:1x",
                           "::1:7001", "[::1", "[::1]7001"}) {
    const auto result = HostPort::parse(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
    EXPECT_NE(result.status().message().find("'" + std::string(text) + "'"), std::string::npos);
  }
}

TEST(HostPort, KnowsLoopback) {
  EXPECT_TRUE((HostPort{"127.3.0.1", 1}).is_loopback());
  EXPECT_TRUE((HostPort{"::1", 1}).is_loopback());
  EXPECT_TRUE((HostPort{"localhost", 1}).is_loopback());
  EXPECT_FALSE((HostPort{"0.0.0.0", 1}).is_loopback());
  EXPECT_FALSE((HostPort{"127.example.org", 1}).is_loopback());
}

TEST(NodeAddress, IsAListOfRanks) {
  const auto ranks = parse_node_address("a:1,[::1]:2");
  ASSERT_TRUE(ranks.ok());
  EXPECT_EQ(ranks->size(), 2u);
  EXPECT_EQ((*ranks)[1], (HostPort{"::1", 2}));
  EXPECT_FALSE(parse_node_address("a:1,").ok());
}

TEST(Interface, IsTheOneThatHasTheAddress) {
  EXPECT_EQ(interface_of("127.0.0.1"), "lo");
  EXPECT_EQ(interface_of("192.0.2.77"), std::nullopt);
  EXPECT_EQ(interface_of("localhost"), std::nullopt);
}

}  // namespace
}  // namespace baton
