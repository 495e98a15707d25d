// The metrics of a node, in DESIGN.md's names. Thread-safe (prometheus-cpp).
#pragma once

#include <string>

#include "transfer/base/metrics.h"
#include "transfer/protocol/effects.h"

namespace baton {

class NodeMetrics {
 public:
  explicit NodeMetrics(Metrics& registry);

  void handoff_ended(protocol::End end, const std::string& transport, uint64_t bytes);

  enum class Stage : uint8_t { kQueued, kOffer, kWaitCompute, kGather, kSend, kVerifyScatter };
  void stage(Stage stage, double seconds_taken);

  // Why bytes were copied. One copy out of the engine and one into it are the rule: a gather and a
  // scatter of ours, or the system's own where a channel sends from and receives into the engine's
  // blocks (sent_from_blocks counts what was lent to the system too: no copy at all). The others
  // are extra and counted by name.
  enum class Copy : uint8_t {
    kGather,
    kScatter,
    kSentFromBlocks,
    kReceivedIntoBlocks,
    kTierLoad,
    kRetainReceived,
    kKept,    // received into a slot, of a node without an engine or for whoever reads it here
    kBounced  // through pinned memory: the payload lies in memory that a GPU cannot copy from
  };
  void copied(Copy why, uint64_t bytes);
  void copy_late();  // a GPU's that takes longer than any should

  // Where bytes did not verify: "handoff" (as received), "host" (in the host tier) or "retain" (as
  // copied out of the blocks they were received into).
  void checksum_failure(const char* where);
  // Segments that came and were not copied: "duplicate", "unwanted" (held, or after the end),
  // "size" (other than the header says) or "unknown_handoff".
  void segment_dropped(const char* why);
  void retain_skipped();  // a chunk that should have been retained found no slot, or no room

  void set_slots(const char* pool, size_t free, size_t held, size_t quarantined);
  void set_quarantined_bytes(const std::string& peer, size_t bytes);

 private:
  prometheus::Counter& ended(protocol::End end, const std::string& transport);
  prometheus::Histogram& seconds(Stage stage);
  prometheus::Counter& checksum_failures(const char* where);
  prometheus::Counter& dropped(const char* why);

  Metrics& registry_;
  prometheus::Counter& bytes_;
  prometheus::Counter& late_copies_;
  prometheus::Counter& retain_skipped_;
};

}  // namespace baton
