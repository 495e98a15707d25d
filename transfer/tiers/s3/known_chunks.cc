#include "transfer/tiers/s3/known_chunks.h"

namespace baton::s3 {

Tier::Presence KnownChunks::presence(const ChunkId& id, TimePoint now) const {
  const auto found = known_.find(id);
  if (found == known_.end() || now >= found->second.until) return Tier::Presence::kUnknown;
  return found->second.held ? Tier::Presence::kHeld : Tier::Presence::kAbsent;
}

void KnownChunks::held(const ChunkId& id, uint64_t payload_bytes, TimePoint now) {
  remember(id, {.held = true, .bytes = payload_bytes, .until = now + held_ttl_});
}

void KnownChunks::absent(const ChunkId& id, TimePoint now) {
  remember(id, {.held = false, .bytes = 0, .until = now + absent_ttl_});
}

void KnownChunks::forget(const ChunkId& id) {
  const auto found = known_.find(id);
  if (found == known_.end()) return;
  if (found->second.held) {
    --count_.chunks;
    count_.bytes -= found->second.bytes;
  }
  order_.remove(id);
  known_.erase(found);
}

void KnownChunks::forget_all() {
  known_.clear();
  order_ = {};
  count_ = {};
}

void KnownChunks::remember(const ChunkId& id, const Known& known) {
  forget(id);
  if (max_chunks_ == 0) return;
  if (known_.size() == max_chunks_) forget(ChunkId(*order_.oldest()));
  known_.emplace(id, known);
  order_.touch(id);
  if (!known.held) return;
  ++count_.chunks;
  count_.bytes += known.bytes;
}

}  // namespace baton::s3
