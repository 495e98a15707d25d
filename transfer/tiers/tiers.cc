#include "transfer/tiers/tiers.h"

#include <optional>
#include <unordered_map>
#include <utility>

#include "transfer/base/log.h"

namespace baton {

Tiers::Tiers(HostTier& host, Config config, Metrics& metrics)
    : host_(host), config_(config), metrics_(metrics) {}

void Tiers::add(std::unique_ptr<Tier> tier) {
  below_.push_back(tier.get());
  sinks_.push_back(sink_of(std::move(tier)));
}

void Tiers::add_first(std::unique_ptr<Tier> tier) {
  below_.insert(below_.begin(), tier.get());
  sinks_.insert(sinks_.begin(), sink_of(std::move(tier)));
}

std::unique_ptr<Tiers::Sink> Tiers::sink_of(std::unique_ptr<Tier> tier) {
  auto sink = std::make_unique<Sink>();
  sink->skipped =
      &metrics_.counter("baton_tier_stores_skipped_total",
                        "Chunks that a tier was too far behind to be given, or that had left the "
                        "host tier by then.",
                        {{"tier", tier->name()}});
  sink->tier = std::move(tier);
  return sink;
}

// --- writing

bool Tiers::has_credit(const Sink& sink, uint64_t bytes) const {
  return sink.bytes == 0 || sink.bytes + bytes <= config_.store_bytes;
}

void Tiers::keep(const ChunkId& id) {
  // What outlives this process would be found by one to which the same fingerprint means what it
  // meant before, and what is shared by others.
  if (closing_ || forgotten_ != 0) return;
  for (const auto& sink : sinks_) {
    if (sink->tier->presence(id) == Tier::Presence::kHeld) continue;
    if (sink->waiting.size() < config_.max_waiting) {
      sink->waiting.push_back(id);
    } else {
      sink->skipped->Increment();
    }
    store_waiting(*sink);
  }
}

void Tiers::store(Sink& sink, HostTier::Pin pin) {
  const Chunk chunk = pin.chunk();
  const uint64_t bytes = chunk.slot.bytes().size();
  sink.bytes += bytes;
  sink.tier->store(chunk, now() + config_.store_deadline,
                   [this, &sink, bytes,
                    pin = std::make_shared<HostTier::Pin>(std::move(pin))](const Status& status) {
                     sink.bytes -= bytes;
                     if (!status.ok() && status.code() != Code::kExists)
                       log::debug("a chunk was not stored tier={} chunk={} why=\"{}\"",
                                  sink.tier->name(), pin->chunk().id.key.to_hex(),
                                  status.message());
                     pin->reset();
                     store_waiting(sink);
                   });
}

void Tiers::store_waiting(Sink& sink) {
  while (!closing_ && !sink.waiting.empty()) {
    std::optional<HostTier::Pin> pin = host_.pin(sink.waiting.front());
    if (pin && !has_credit(sink, pin->chunk().slot.bytes().size())) return;
    sink.waiting.pop_front();
    if (pin) {
      store(sink, std::move(*pin));
    } else {
      sink.skipped->Increment();
    }
  }
}

// --- finding

// A look-up that waits for tiers to ask.
struct Tiers::Search {
  std::vector<ChunkId> ids;
  std::vector<Tier*> tiers;  // that may be asked
  OnLocated done;
  // What was asked of each tier, and the answers so far.
  std::unordered_map<const Tier*, std::unordered_map<ChunkId, bool>> said;
  size_t waits_for = 0;  // tiers
};

std::vector<Tier*> Tiers::holders(const ChunkId& id, Reach reach) const {
  std::vector<Tier*> holders;
  for (Tier* tier : within(reach))
    if (tier->presence(id) != Tier::Presence::kAbsent) holders.push_back(tier);
  return holders;
}

std::vector<Tier*> Tiers::within(Reach reach) const {
  std::vector<Tier*> tiers;
  for (Tier* tier : below_)
    if ((reach == Reach::kAll || !tier->elsewhere()) && !(forgotten_ != 0 && tier->shared()))
      tiers.push_back(tier);
  return tiers;
}

std::vector<Tiers::Held> Tiers::run_of(Search& search) {
  std::vector<Held> run;
  if (search.ids.empty()) return run;
  std::vector<ChunkKey> keys;
  for (const ChunkId& id : search.ids) keys.push_back(id.key);
  const ChunkId& first = search.ids.front();
  for (HostTier::Pin& pin : host_.find_leading(keys, first.kv_group, first.head_group))
    run.push_back({.id = pin.chunk().id, .pin = std::move(pin)});
  for (size_t i = run.size(); i < search.ids.size(); ++i) {
    const ChunkId& id = search.ids[i];
    Held held{.id = id};
    if (std::optional<HostTier::Pin> pin = host_.find(id)) {
      held.pin = std::move(*pin);
    } else {
      for (Tier* tier : search.tiers) {
        const auto asked = search.said.find(tier);
        const bool said = asked != search.said.end() && asked->second.contains(id);
        if (said ? asked->second.at(id) : tier->presence(id) == Tier::Presence::kHeld)
          held.holders.push_back(tier);
      }
      if (held.holders.empty()) break;
    }
    run.push_back(std::move(held));
  }
  return run;
}

void Tiers::locate(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline, Reach reach,
                   OnLocated done) {
  auto search = std::make_shared<Search>();
  search->tiers = within(reach);
  const std::vector<Tier*>& tiers = search->tiers;
  std::vector<std::vector<ChunkId>> questions(tiers.size());
  for (const ChunkId& id : ids) {
    if (!host_.contains(id)) {
      // Asked are those that are nearer than the first that is known to have it.
      bool held = false;
      bool asked = false;
      for (size_t i = 0; i < tiers.size() && !held; ++i) {
        const Tier::Presence presence = tiers[i]->presence(id);
        held = presence == Tier::Presence::kHeld;
        if (presence == Tier::Presence::kUnknown) {
          questions[i].push_back(id);
          asked = true;
        }
      }
      if (!held && !asked) break;
    }
    search->ids.push_back(id);
  }
  for (const auto& question : questions) search->waits_for += !question.empty();
  if (search->waits_for == 0 || closing_) return done(run_of(*search));
  search->done = std::move(done);
  for (size_t i = 0; i < tiers.size(); ++i) {
    if (questions[i].empty()) continue;
    const std::vector<ChunkId> asked = questions[i];
    tiers[i]->find(origin, std::move(questions[i]), deadline,
                   [this, search, asked, tier = tiers[i]](const std::vector<bool>& present) {
                     for (size_t c = 0; c < asked.size(); ++c)
                       search->said[tier].emplace(asked[c], present[c]);
                     if (--search->waits_for == 0) search->done(run_of(*search));
                   });
  }
}

bool Tiers::forget(const FingerprintDigest& fingerprint) {
  ++forgotten_;
  host_.clear({}, false);
  bool shared = false;
  for (const auto& sink : sinks_) {
    sink->waiting.clear();
    if (sink->tier->shared()) {
      shared = true;
      continue;
    }
    sink->tier->clear({.fingerprint = fingerprint}, false,
                      [name = sink->tier->name()](const Result<ChunkCount>& dropped) {
                        if (!dropped.ok())
                          log::warn("a tier was not emptied tier={} why=\"{}\"", name,
                                    dropped.status().message());
                      });
  }
  return shared;
}

void Tiers::close(TimePoint deadline, std::function<void()> closed) {
  closing_ = true;
  if (sinks_.empty()) return closed();
  const auto left = std::make_shared<size_t>(sinks_.size());
  for (const auto& sink : sinks_) {
    sink->waiting.clear();
    sink->tier->close(deadline, [left, closed] {
      if (--*left == 0) closed();
    });
  }
}

}  // namespace baton
