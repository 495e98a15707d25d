// A tier below the host's: whole chunks on a device or behind a network, found by key, written out
// of the slots they were gathered into and read back into slots, layer by layer.
//
// What every tier keeps to:
// - A chunk is found only when all of it is written, and what is read is verified against the
//   checksums of its gather before it is told of: what does not verify is a miss and is dropped.
// - A store holds a reference to the chunk's slot, and a read counts as a writer of its slot, until
//   the device or the socket touches the memory no more, whenever the call itself has ended.
// - Nothing waits for a tier without a deadline, and all that is under way has a bound: beyond it a
//   store or a read is refused at once (kResourceExhausted). A tier that keeps failing refuses for
//   a while without trying (kUnavailable, scheduler/breaker.h).
//
// Thread safety: confined to the node's progress thread. Callbacks run there, each once, never
// inside the call that they were given to. They may call the tier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transfer/base/clock.h"
#include "transfer/base/status.h"
#include "transfer/chunk.h"

namespace baton {

// Which chunks: those that fit everything that is set. Nothing set: all.
struct ChunkFilter {
  std::optional<FingerprintDigest> fingerprint;
  std::optional<TenantId> tenant;
};

struct ChunkCount {
  uint64_t chunks = 0;
  uint64_t bytes = 0;  // of payload
};

struct TierReport {
  ChunkCount held;
  uint64_t capacity_bytes = 0;  // 0: no bound of its own
  uint32_t stores = 0;          // under way or waiting
  uint32_t reads = 0;
  bool available = true;  // whether it is being tried: its breaker is not open
  std::string trouble;    // the last error of the device or service; empty: none since it worked
};

struct TierReadRequest {
  ChunkId id;
  SlotRef into;  // layer l goes to offset l * segment_bytes
  // What the reader can use; anything else there is kRefused, naming both.
  uint32_t tokens = 0;
  uint32_t layers = 0;
  uint64_t segment_bytes = 0;
  ChunkOrigin origin;
  TimePoint deadline;
};

class Tier {
 public:
  // A read under way. Destroying it, also inside one of its callbacks, cancels: neither runs any
  // more; the slot keeps its writer until it is let go of.
  class Read {
   public:
    virtual ~Read() = default;
  };
  // A layer lies verified in the slot, and all that `chunk` says but the other layers' bytes is
  // right. Layers are told in any order, mostly the natural one.
  using OnLayer = std::function<void(const Chunk& chunk, uint32_t layer)>;
  // All of it does, in `into`; or kNotFound (a miss), kChecksum (dropped from the tier), kRefused,
  // kDeadlineExceeded, kUnavailable, kResourceExhausted, kInternal.
  using OnRead = std::function<void(Result<Chunk>)>;
  using OnDone = std::function<void(const Status&)>;
  using OnCount = std::function<void(Result<ChunkCount>)>;
  // One a chunk asked for. What cannot be said in time is absent.
  using OnPresent = std::function<void(std::vector<bool>)>;

  enum class Presence : uint8_t { kHeld, kAbsent, kUnknown };

  virtual ~Tier() = default;
  virtual const char* name() const = 0;  // "nvme", "s3", …: in metrics, options and answers
  // Whether it is another node's: what a peer asks for is not asked of further nodes.
  virtual bool elsewhere() const { return false; }
  // Whether others write to it too: what this node does not want any more is not its own to drop.
  virtual bool shared() const { return elsewhere(); }

  // As far as memory knows.
  virtual Presence presence(const ChunkId& id) const = 0;
  // Asks whoever knows, where presence() is kUnknown. All of one origin: a service's objects are
  // named by it too.
  virtual void find(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline,
                    OnPresent done) = 0;
  // Writes the chunk. kExists: it is there already (no error). Other errors: nothing is visible.
  virtual void store(Chunk chunk, TimePoint deadline, OnDone done) = 0;
  virtual std::unique_ptr<Read> read(TierReadRequest request, OnLayer on_layer, OnRead done) = 0;
  // From now on nobody finds them; reads under way end as misses or as they would have.
  virtual void erase(ChunkOrigin origin, std::vector<ChunkId> ids, OnDone done) = 0;
  // The same for all that fit; `dry_run` counts alone.
  virtual void clear(ChunkFilter filter, bool dry_run, OnCount done) = 0;
  virtual TierReport report() const = 0;

  // Nothing more is begun, what is under way ends (kUnavailable at the latest when `deadline` has
  // passed); `closed` runs when the tier touches no slot any more. Then it may be destroyed.
  virtual void close(TimePoint deadline, std::function<void()> closed) = 0;
};

}  // namespace baton
