#include "router/ctl_view.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton::router {
namespace {

using Json = nlohmann::ordered_json;

TEST(CtlView, TablesHaveAColumnForEveryName) {
  const Json rows = Json::parse(R"([{"id":"a","n":1},{"id":"bcd","layers":[0,1],"n":null}])");
  EXPECT_EQ(table_of(rows),
            "id   n  layers\n"
            "a    1  -\n"
            "bcd  -  [0,1]\n");
  EXPECT_EQ(table_of(Json::array()), "");
}

TEST(CtlView, HandoffsAsATableTheRestAsLines) {
  EXPECT_EQ(handoffs_view(Json::parse(
                R"({"node":"h:1","handoffs":[{"id":"x","state":"sending"}],"peers":[],
                    "slots":{"free":3,"pools":{"transit":{"free":3}}}})")),
            "node: h:1\n"
            "handoffs: 1\n"
            "id  state\n"
            "x   sending\n"
            "peers: none\n"
            "slots: free 3  pools (transit (free 3))\n");
}

TEST(CtlView, MetricsWithoutNoise) {
  const char* text =
      "# HELP baton_x_total some\n# TYPE baton_x_total counter\n"
      "baton_x_total{end=\"ok fine\"} 12\n"
      "other_total 3\n"
      "baton_s_seconds_bucket{le=\"1\"} 4\nbaton_s_seconds_count 4\nbaton_s_seconds_sum 2\n"
      "baton_never_seconds_count 0\nbaton_never_seconds_sum 0\n";
  EXPECT_EQ(metrics_view(text, "baton_"),
            "baton_x_total{end=\"ok fine\"}  12\n"
            "baton_s_seconds               count 4  mean 0.5  sum 2\n");
  EXPECT_EQ(metrics_view(text, "other"), "other_total  3\n");
}

}  // namespace
}  // namespace baton::router
