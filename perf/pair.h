// Two processes with a node each, as the measuring one sees them: this one sends, the other one
// receives. The other process is this program again, on this host, or one that was started with
// --serve.
//
// Externally synchronised; blocks.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "perf/flight.h"
#include "perf/reference_ring.h"
#include "perf/reference_ucx.h"
#include "perf/wire.h"

namespace baton::bench {

// What the handoffs of a pair have cost so far.
struct Usage {
  double seconds = 0;  // measured
  double gather = 0, verify_scatter = 0, offer = 0;
  double sender_cpu = 0, receiver_cpu = 0;

  // The stage that the time went into: "gather", "verify_scatter" or "offer" where it was at work
  // for more than half of the time, otherwise "send", which is the channel.
  std::string blame() const;
  // The shares of the time, for Line::also.
  void describe(Json& also) const;
};

class Pair {
 public:
  // `connect`: to a process that serves; none: one of our own.
  static Result<std::unique_ptr<Pair>> create(Spec spec, const std::optional<HostPort>& connect);
  ~Pair();

  Side& side() { return *side_; }
  const Spec& spec() const { return side_->spec(); }
  Usage usage;

  // Runs in between begin() and the end of the prefill, once for each session; the default has
  // everything computed at once.
  using Compute = std::function<void(PrefillSession&, uint32_t tokens)>;

  struct Landed {
    double seconds = 0;        // from the first begin() to the last byte verified
    std::vector<double> each;  // of each handoff, from its own begin()
  };
  // A batch of as many prompts of as many blocks, from block `first` of the shuffled pools on.
  Result<Landed> hand_off(uint32_t count, uint32_t blocks, uint32_t first = 0,
                          const Compute& compute = nullptr);
  // The same in two steps: others may be begun in between, in other slices. All use the same order
  // of blocks until reshuffle(), so that slices do not overlap.
  void reshuffle() { ++seeds_; }
  Result<std::unique_ptr<Flight>> begin(uint32_t count, uint32_t blocks, uint32_t first,
                                        const Compute& compute = nullptr);
  Result<Landed> finish(std::unique_ptr<Flight> flight);

  // --- references between the same processes, in seconds
  // One contiguous stream of so many bytes on a plain socket; where `repeated` is not 0, of that
  // many leading bytes again and again, which the sender's cache then holds.
  Result<double> stream(size_t bytes, size_t repeated = 0);
  // A round trip of 64 bytes on the same socket: the mean of so many.
  Result<double> round_trip(uint32_t times);
  // The pool's bytes in contiguous active messages of UCX over TCP.
  Result<double> ucx(UcxErrors errors);
  // All of the pool by bare loops through shared memory, shuffled; same host only.
  Result<double> ring();

  // What the other side recorded since the last time, on this process's clock.
  Result<std::vector<TimelineEvent>> other_timeline();

 private:
  Pair() = default;
  Status start_process();
  Status open_stream();
  double since(TimePoint began, int64_t other_clock) const;

  std::unique_ptr<Wire> wire_;
  pid_t child_ = -1;
  std::string other_host_ = "127.0.0.1";
  int64_t offset_ns_ = 0;  // their clock minus ours
  HostPort other_node_;
  std::unique_ptr<Side> side_;
  UniqueFd stream_;
  std::unique_ptr<Ring> ring_;
  std::map<UcxErrors, std::unique_ptr<UcxStream>> ucx_;
  BlockOrder order_;
  uint64_t batches_ = 0;
  uint64_t seeds_ = 0;
  size_t events_read_ = 0;
};

}  // namespace baton::bench
