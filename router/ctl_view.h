// How baton-ctl prints what nodes and routers answer. Pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace baton::router {

// A list of objects as an aligned table: a column for each name that any of them has, in the order
// of their first appearance. Empty for an empty list.
std::string table_of(const nlohmann::ordered_json& rows);

// What a node's /debug/handoffs says: the live handoffs as a table, then slots, tier and peers.
std::string handoffs_view(const nlohmann::ordered_json& answer);

// Prometheus text without comments and empty histogram buckets, only the names that contain
// `filter`, as "name{labels} value" in aligned columns; of a histogram count, mean and sum.
std::string metrics_view(std::string_view text, std::string_view filter);

}  // namespace baton::router
