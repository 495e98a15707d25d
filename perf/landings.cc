#include "perf/landings.h"

#include <cstring>

namespace baton::bench {

HandoffAttempt Batch::handoff(uint32_t index) const {
  HandoffAttempt handoff;
  std::memcpy(handoff.id.bytes.data(), &id, sizeof id);
  std::memcpy(handoff.id.bytes.data() + sizeof id, &index, sizeof index);
  return handoff;
}

std::string Batch::salt(uint32_t index) const {
  return std::to_string(id) + "/" + std::to_string(index);
}

Json Batch::to_json() const {
  return {{"id", id}, {"count", count}, {"blocks", blocks}, {"first", first}, {"seed", seed}};
}

Result<Batch> Batch::from_json(const Json& json) {
  Batch batch;
  try {
    json.at("id").get_to(batch.id);
    json.at("count").get_to(batch.count);
    json.at("blocks").get_to(batch.blocks);
    json.at("first").get_to(batch.first);
    json.at("seed").get_to(batch.seed);
  } catch (const Json::exception& error) {
    return Status(Code::kProtocol, std::string("a batch of handoffs: ") + error.what());
  }
  return batch;
}

Landings::Landings(Side& side) : side_(side), thread_([this] { run(); }) {}

// The thread ends, then the sessions, whose last callbacks only touch what they share.
Landings::~Landings() {
  {
    MutexLock lock(shared_->mutex);
    shared_->stopping = true;
    shared_->changed.notify_all();
  }
  thread_.join();
  std::map<uint64_t, std::unique_ptr<Arrivals>> left;
  MutexLock lock(shared_->mutex);
  left.swap(shared_->arrivals);
}

Status Landings::expect(const Batch& batch) {
  KvPool& pool = side_.pool();
  if (batch.count == 0 || batch.blocks == 0 ||
      batch.first + uint64_t{batch.count} * batch.blocks > pool.blocks())
    return Status(Code::kInvalidArgument, "the KV memory has " + std::to_string(pool.blocks()) +
                                              " blocks: too few for the handoffs");
  const std::vector<uint32_t>& order = here_.get(pool.blocks(), batch.seed * 2 + 1);
  auto arrivals = std::make_unique<Arrivals>();
  arrivals->batch = batch;
  arrivals->landings.resize(batch.count);
  for (uint32_t i = 0; i < batch.count; ++i) {
    const auto first = order.begin() + batch.first + size_t{i} * batch.blocks;
    arrivals->landings[i].blocks.assign(first, first + batch.blocks);
    pool.poison(arrivals->landings[i].blocks);
  }
  BATON_RETURN_IF_ERROR(pool.upload());
  // The sessions may speak before they are in the table: their first words wait for the lock.
  MutexLock lock(shared_->mutex);
  for (uint32_t i = 0; i < batch.count; ++i) {
    DecodeRequest request{.handoff = batch.handoff(i),
                          .budget = std::chrono::seconds(120),
                          .tokens = prompt_tokens(batch.blocks * side_.spec().block_tokens),
                          .salt = batch.salt(i)};
    auto session = DecodeSession::create(
        side_.node(), std::move(request),
        [shared = shared_, id = batch.id, i] {
          MutexLock lock(shared->mutex);
          shared->changes.push_back({id, i, now()});
          shared->changed.notify_all();
        },
        [shared = shared_, id = batch.id] {
          MutexLock lock(shared->mutex);
          const auto found = shared->arrivals.find(id);
          if (found != shared->arrivals.end()) ++found->second->released;
          shared->changed.notify_all();
        });
    if (!session.ok()) return session.status();
    arrivals->landings[i].session = std::move(session).value();
  }
  shared_->arrivals[batch.id] = std::move(arrivals);
  return ok_status();
}

void Landings::run() {
  MutexLock lock(shared_->mutex);
  while (!shared_->stopping) {
    while (shared_->changes.empty() && !shared_->stopping) shared_->changed.wait(shared_->mutex);
    std::vector<Change> changes;
    changes.swap(shared_->changes);
    for (const Change& change : changes) {
      const auto found = shared_->arrivals.find(change.batch);
      if (found == shared_->arrivals.end()) continue;
      Landing& landing = found->second->landings[change.index];
      landing.changed_at = change.at;
      look(landing, *found->second);
    }
    shared_->changed.notify_all();
  }
}

void Landings::look(Landing& landing, Arrivals& arrivals) {
  if (landing.over) return;
  const DecodeSession::Poll poll = landing.session->poll();
  if (poll.state == DecodeSession::State::kOffered && !landing.accepted) {
    landing.accepted = true;
    landing.session->accept(landing.blocks, 0);
  } else if (poll.state == DecodeSession::State::kLoaded ||
             poll.state == DecodeSession::State::kFailed) {
    landing.over = true;
    landing.loaded_at = landing.changed_at;
    landing.why = poll.why;
    ++arrivals.over;
    landing.session->done();
  }
}

Status Landings::wait(uint64_t batch, Duration deadline) {
  const TimePoint end = now() + deadline;
  MutexLock lock(shared_->mutex);
  const auto found = shared_->arrivals.find(batch);
  if (found == shared_->arrivals.end()) return Status(Code::kNotFound, "no such batch of handoffs");
  const Arrivals& arrivals = *found->second;
  while (arrivals.over < arrivals.landings.size() || arrivals.released < arrivals.landings.size()) {
    if (!shared_->changed.wait_until(shared_->mutex, end) && now() >= end)
      return Status(Code::kDeadlineExceeded, "the handoffs were not loaded in time");
  }
  return ok_status();
}

Result<std::vector<TimePoint>> Landings::compare(uint64_t id) {
  std::unique_ptr<Arrivals> arrivals;
  {
    MutexLock lock(shared_->mutex);
    const auto found = shared_->arrivals.find(id);
    if (found == shared_->arrivals.end())
      return Status(Code::kNotFound, "no such batch of handoffs");
    arrivals = std::move(found->second);
    shared_->arrivals.erase(found);
  }
  const Batch& batch = arrivals->batch;
  KvPool& pool = side_.pool();
  const std::vector<uint32_t>& from = sent_.get(pool.blocks(), batch.seed * 2);
  BATON_RETURN_IF_ERROR(pool.download());
  if (side_.spec().corrupt) *pool.block(0, arrivals->landings[0].blocks[0]) ^= std::byte{1};
  std::vector<TimePoint> loaded;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const Landing& landing = arrivals->landings[i];
    if (!landing.why.ok()) return landing.why;
    const std::span<const uint32_t> sent(from.data() + batch.first + size_t{i} * batch.blocks,
                                         batch.blocks);
    if (const uint64_t wrong = pool.wrong_words(sent, landing.blocks); wrong != 0)
      return Status(Code::kChecksum,
                    std::to_string(wrong) + " words of 8 bytes are not what was sent");
    loaded.push_back(landing.loaded_at);
  }
  return loaded;
}

}  // namespace baton::bench
