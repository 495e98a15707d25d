#include "transfer/node_metrics.h"

namespace baton {
namespace {

const char* stage_name(NodeMetrics::Stage stage) {
  switch (stage) {
    case NodeMetrics::Stage::kQueued:
      return "queued";
    case NodeMetrics::Stage::kOffer:
      return "offer";
    case NodeMetrics::Stage::kWaitCompute:
      return "wait_compute";
    case NodeMetrics::Stage::kGather:
      return "gather";
    case NodeMetrics::Stage::kSend:
      return "send";
    case NodeMetrics::Stage::kVerifyScatter:
      return "verify_scatter";
  }
  return "unknown";
}

const char* copy_name(NodeMetrics::Copy why) {
  switch (why) {
    case NodeMetrics::Copy::kGather:
      return "gather";
    case NodeMetrics::Copy::kSentFromBlocks:
      return "sent_from_blocks";
    case NodeMetrics::Copy::kReceivedIntoBlocks:
      return "received_into_blocks";
    case NodeMetrics::Copy::kScatter:
      return "scatter";
    case NodeMetrics::Copy::kTierLoad:
      return "tier_load";
    case NodeMetrics::Copy::kRetainReceived:
      return "retain_received";
    case NodeMetrics::Copy::kKept:
      return "kept";
    case NodeMetrics::Copy::kBounced:
      return "bounced";
  }
  return "unknown";
}

}  // namespace

NodeMetrics::NodeMetrics(Metrics& registry)
    : registry_(registry),
      bytes_(registry.counter("baton_handoff_bytes_total", "Payload bytes of ended handoffs.")),
      late_copies_(registry.counter("baton_gpu_copies_late_total",
                                    "Copies that a GPU had not ended when they were late (logged).")),
      retain_skipped_(registry.counter("baton_retain_skipped_total",
                                       "Chunks not retained because no slot was free.")) {
  // All families are there from the start, so that a rate over them is right, and who asks for a
  // name that does not exist can tell.
  using protocol::End;
  for (const End end :
       {End::kCommitted, End::kRefused, End::kCancelled, End::kExpired, End::kFailed})
    ended(end, "");
  for (const Stage stage : {Stage::kQueued, Stage::kOffer, Stage::kWaitCompute, Stage::kGather,
                            Stage::kSend, Stage::kVerifyScatter})
    seconds(stage);
  for (const Copy why :
       {Copy::kGather, Copy::kScatter, Copy::kSentFromBlocks, Copy::kReceivedIntoBlocks,
        Copy::kTierLoad, Copy::kRetainReceived, Copy::kKept, Copy::kBounced})
    copied(why, 0);
  for (const char* where : {"handoff", "host", "retain"}) checksum_failures(where);
  for (const char* why : {"size", "duplicate", "unwanted", "unknown_handoff"}) dropped(why);
}

prometheus::Counter& NodeMetrics::ended(protocol::End end, const std::string& transport) {
  return registry_.counter(
      "baton_handoffs_total", "Handoffs by how they ended on this side.",
      {{"end", protocol::end_name(end)}, {"channel", transport.empty() ? "none" : transport}});
}

prometheus::Histogram& NodeMetrics::seconds(Stage stage) {
  return registry_.histogram("baton_handoff_seconds", "Time of a handoff's stages.",
                             {{"stage", stage_name(stage)}}, Metrics::seconds_buckets());
}

prometheus::Counter& NodeMetrics::checksum_failures(const char* where) {
  return registry_.counter("baton_checksum_failures_total", "Segments whose bytes did not verify.",
                           {{"where", where}});
}

prometheus::Counter& NodeMetrics::dropped(const char* why) {
  return registry_.counter("baton_segments_dropped_total",
                           "Segments that came but were not wanted.", {{"why", why}});
}

void NodeMetrics::handoff_ended(protocol::End end, const std::string& transport, uint64_t bytes) {
  ended(end, transport).Increment();
  bytes_.Increment(static_cast<double>(bytes));
}

void NodeMetrics::stage(Stage stage, double seconds_taken) {
  seconds(stage).Observe(seconds_taken);
}

void NodeMetrics::copy_late() { late_copies_.Increment(); }

void NodeMetrics::copied(Copy why, uint64_t bytes) {
  registry_
      .counter("baton_copied_bytes_total", "Payload bytes copied by this node's CPU or GPU.",
               {{"why", copy_name(why)}})
      .Increment(static_cast<double>(bytes));
}

void NodeMetrics::checksum_failure(const char* where) { checksum_failures(where).Increment(); }

void NodeMetrics::segment_dropped(const char* why) { dropped(why).Increment(); }

void NodeMetrics::retain_skipped() { retain_skipped_.Increment(); }

void NodeMetrics::set_slots(const char* pool, size_t free, size_t held, size_t quarantined) {
  const auto set = [&](const char* state, size_t n) {
    registry_.gauge("baton_slots", "Slots by state.", {{"pool", pool}, {"state", state}})
        .Set(static_cast<double>(n));
  };
  set("free", free);
  set("held", held);
  set("quarantined", quarantined);
}

void NodeMetrics::set_quarantined_bytes(const std::string& peer, size_t bytes) {
  registry_
      .gauge("baton_quarantined_bytes", "Bytes of slots that wait for a writer's completion.",
             {{"peer", peer}})
      .Set(static_cast<double>(bytes));
}

}  // namespace baton
