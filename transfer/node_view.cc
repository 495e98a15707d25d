// What a node shows of itself, and lets go of when it is told to: live handoffs, slots, gauges,
// chunks.
#include <boost/asio/post.hpp>
#include <future>
#include <nlohmann/json.hpp>

#include "transfer/base/log.h"
#include "transfer/node_impl.h"

namespace baton {
namespace {

using nlohmann::json;

// What `what` returns on the progress thread; kDeadlineExceeded where that does not get to it in
// time, and then it is called later.
template <typename T, typename What>
Result<T> on_progress_thread(boost::asio::io_context& io, Duration deadline, What what) {
  auto promise = std::make_shared<std::promise<T>>();
  std::future<T> future = promise->get_future();
  boost::asio::post(io, [what = std::move(what), promise] { promise->set_value(what()); });
  if (future.wait_for(deadline) != std::future_status::ready)
    return Status(Code::kDeadlineExceeded, "the progress thread did not answer in time");
  return future.get();
}

// Sums over both pools, and each by name.
json slots_of(const SlotPool* retained, const SlotPool* transit) {
  SlotCounts sum;
  json pools = json::object();
  for (const auto& [name, pool] : {std::pair{"retained", retained}, {"transit", transit}}) {
    if (pool == nullptr) continue;
    const SlotCounts counts = pool->counts();
    sum.total += counts.total;
    sum.free += counts.free;
    sum.held += counts.held;
    sum.quarantined += counts.quarantined;
    pools[name] = {{"total", counts.total},
                   {"free", counts.free},
                   {"held", counts.held},
                   {"quarantined", counts.quarantined},
                   {"slot_bytes", pool->slot_bytes()},
                   {"page_bytes", pool->arena().page_bytes()}};
  }
  return {{"total", sum.total},
          {"free", sum.free},
          {"held", sum.held},
          {"quarantined", sum.quarantined},
          {"pools", std::move(pools)}};
}

json describe_sending(const Sending& sending) {
  json out = {{"id", sending.handoff().id.to_string()},
              {"attempt", sending.handoff().attempt},
              {"role", sending.role() == HandoffRole::kSender ? "sender" : "holder"},
              {"peer", sending.link() == nullptr ? json(nullptr) : json(sending.link()->node())},
              {"state", "retaining"}};
  if (const protocol::SenderHandoff* machine = sending.machine()) {
    out["state"] = state_name(machine->state());
    out["segments_total"] = machine->segments().segments();
    out["published_bytes"] = machine->published_bytes();
    out["unacknowledged_bytes"] = machine->unacknowledged_bytes();
  }
  return out;
}

json describe_receiving(const Receiving& receiving) {
  const protocol::ReceiverHandoff& machine = receiving.machine();
  json layers = json::array();
  for (uint16_t l = 0; machine.offer() != nullptr && l < machine.segments().max_layers(); ++l)
    if (machine.layer_complete(l)) layers.push_back(l);
  return {{"id", receiving.handoff().id.to_string()},
          {"attempt", receiving.handoff().attempt},
          {"role", "receiver"},
          {"peer", receiving.link() == nullptr ? json(nullptr) : json(receiving.link()->node())},
          {"claimed", receiving.claimed()},
          {"state", state_name(machine.state())},
          {"segments_verified", machine.verified_segments()},
          {"segments_total", machine.segments().segments()},
          {"bytes_verified", machine.verified_bytes()},
          {"layers_complete", layers}};
}

}  // namespace

json Node::Impl::describe() const {
  json handoffs = json::array();
  for (const auto* map : {&sendings_, &holdings_})
    for (const auto& [handoff, sending] : *map) handoffs.push_back(describe_sending(*sending));
  for (const auto& [handoff, receiving] : receivings_)
    handoffs.push_back(describe_receiving(*receiving));
  json peers = json::array();
  for (const auto& [peer, link] : links_)
    peers.push_back({{"node", link->node()},
                     {"usable", link->usable()},
                     {"transport", link->channel() == nullptr
                                       ? json(nullptr)
                                       : json(std::string(link->channel()->transport()))}});
  return {{"node", control_->address().to_string()},
          {"handoffs", std::move(handoffs)},
          {"records", records_},
          {"peers", std::move(peers)},
          {"slots", slots_of(core_.retained.get(), core_.transit.get())},
          {"host_tier", {{"chunks", core_.tier->entries()}, {"bytes", core_.tier->bytes()}}}};
}

Result<json> Node::Impl::debug_handoffs(Duration deadline) {
  return on_progress_thread<json>(core_.io, deadline, [this] { return describe(); });
}

Result<size_t> Node::Impl::drop_chunks(Duration deadline) {
  return on_progress_thread<size_t>(core_.io, deadline, [this] {
    const size_t dropped = core_.tier->entries();
    const bool shared = core_.tiers->forget(core_.fingerprint);
    log::info("what was kept was dropped chunks={}{}", dropped,
              shared ? "; what is shared with others is not used any more" : "");
    return dropped;
  });
}

void Node::Impl::refresh_gauges() {
  const auto show = [&](const char* name, const SlotPool* pool) {
    if (pool == nullptr) return;
    const SlotCounts counts = pool->counts();
    core_.node_metrics.set_slots(name, counts.free, counts.held, counts.quarantined);
  };
  show("retained", core_.retained.get());
  show("transit", core_.transit.get());
  // The local channel has no foreign writers: what is quarantined waits for our own copies.
  core_.node_metrics.set_quarantined_bytes(
      "self", core_.transit->quarantined_bytes() +
                  (core_.retained ? core_.retained->quarantined_bytes() : 0));
}

}  // namespace baton
