#include "transfer/local/published.h"

#include <algorithm>
#include <string>

namespace baton::local {

uint64_t Published::add(const HandoffAttempt& handoff, SlotRef slot, uint64_t staged_bytes,
                        Channel::PublishDone done) {
  BATON_CHECK(!full(), "more published than the channel allows");
  entries_.emplace(next_, Entry{handoff, std::move(slot), staged_bytes, std::move(done), false});
  staged_bytes_ += staged_bytes;
  staged_segments_ += staged_bytes != 0;
  return next_++;
}

void Published::let_go(Entry& entry) {
  entry.slot.reset();
  staged_segments_ -= entry.staged_bytes != 0;
  staged_bytes_ -= std::exchange(entry.staged_bytes, 0);
}

Result<Channel::PublishDone> Published::consumed(uint64_t sequence) {
  auto entry = entries_.extract(sequence);
  if (entry.empty()) {
    return Status(Code::kProtocol, "local channel: sequence " + std::to_string(sequence) +
                                       " is consumed, but was not outstanding");
  }
  let_go(entry.mapped());
  return std::move(entry.mapped().done);
}

std::vector<Channel::PublishDone> Published::let_go(const HandoffAttempt* handoff) {
  std::vector<std::pair<uint64_t, Channel::PublishDone>> found;
  for (auto& [sequence, entry] : entries_) {
    if (entry.forgotten || (handoff != nullptr && entry.handoff != *handoff)) continue;
    entry.forgotten = true;
    let_go(entry);
    found.emplace_back(sequence, std::exchange(entry.done, nullptr));
  }
  // In the order in which they were published.
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Channel::PublishDone> dones;
  dones.reserve(found.size());
  for (auto& [sequence, done] : found) dones.push_back(std::move(done));
  return dones;
}

}  // namespace baton::local
