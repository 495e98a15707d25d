// The receiving engine of a measurement: gives blocks to each handoff that is offered, notes when
// its last byte was verified in them, and compares the bytes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "connectors/decode_session.h"
#include "perf/side.h"
#include "transfer/base/mutex.h"

namespace baton::bench {

// Handoffs that are begun together: `count` prompts of `blocks` blocks each, in slices of the
// shuffled pools from block `first` on.
struct Batch {
  uint64_t id = 0;  // of the pair, unique
  uint32_t count = 1;
  uint32_t blocks = 1;
  uint32_t first = 0;
  uint64_t seed = 0;  // twice it: of the order of the sender's blocks; one more: the receiver's

  HandoffAttempt handoff(uint32_t index) const;
  std::string salt(uint32_t index) const;  // no two prompts are the same

  Json to_json() const;
  static Result<Batch> from_json(const Json& json);
};

// Has a thread of its own; its methods are externally synchronised.
class Landings {
 public:
  explicit Landings(Side& side);
  ~Landings();

  // Poisons the blocks and creates the sessions.
  Status expect(const Batch& batch);
  // Waits until every handoff of the batch is over and nothing touches its blocks.
  Status wait(uint64_t batch, Duration deadline);
  // After wait(): compares every byte and lets go of the batch. When each handoff was loaded
  // (CLOCK_MONOTONIC), in their order; kChecksum where a byte is wrong, or why one failed.
  Result<std::vector<TimePoint>> compare(uint64_t batch);

 private:
  struct Landing {
    std::unique_ptr<DecodeSession> session;
    std::vector<uint32_t> blocks;
    bool accepted = false;
    bool over = false;
    TimePoint changed_at{};  // when the session last said that something is new
    TimePoint loaded_at{};
    Status why;
  };
  struct Arrivals {
    Batch batch;
    std::vector<Landing> landings;
    uint32_t over = 0;
    uint32_t released = 0;
  };
  struct Change {
    uint64_t batch;
    uint32_t index;
    TimePoint at;
  };
  // Callbacks may come after this is gone.
  struct Shared {
    Mutex mutex;
    CondVar changed;
    std::vector<Change> changes BATON_GUARDED_BY(mutex);
    std::map<uint64_t, std::unique_ptr<Arrivals>> arrivals BATON_GUARDED_BY(mutex);
    bool stopping BATON_GUARDED_BY(mutex) = false;
  };

  void run();
  static void look(Landing& landing, Arrivals& arrivals);

  Side& side_;
  BlockOrder sent_, here_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::thread thread_;
};

}  // namespace baton::bench
