#include "transfer/tiers/s3/turns.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

namespace baton::s3 {
namespace {

constexpr size_t kKinds = 4;

bool is_background(TurnKind kind) { return kind == TurnKind::kBackground; }

}  // namespace

struct Turns::Entry {
  TurnKind kind;
  std::function<void()> go;
  bool active = false;
};

struct Turns::State {
  boost::asio::io_context& io;
  const uint32_t connections;
  const uint32_t background;
  std::array<std::list<std::shared_ptr<Entry>>, kKinds> waiting;
  uint32_t active = 0;
  uint32_t active_background = 0;

  bool has_room(TurnKind kind) const {
    return active < connections && (!is_background(kind) || active_background < background);
  }
  void begin(Entry& entry) {
    entry.active = true;
    ++active;
    if (is_background(entry.kind)) ++active_background;
  }
  void end(Entry& entry) {
    entry.active = false;
    --active;
    if (is_background(entry.kind)) --active_background;
  }
  void next() {
    for (size_t kind = 0; kind < kKinds; ++kind) {
      auto& queue = waiting[kind];
      while (!queue.empty() && has_room(static_cast<TurnKind>(kind))) {
        begin(*queue.front());
        // Whose place is given up meanwhile is gone by then.
        boost::asio::post(io, [entry = std::weak_ptr<Entry>(queue.front())] {
          const auto still = entry.lock();
          if (still != nullptr) std::exchange(still->go, nullptr)();
        });
        queue.pop_front();
      }
    }
  }
};

Turns::Turns(boost::asio::io_context& io, uint32_t connections, uint32_t background)
    : state_(new State{.io = io, .connections = connections, .background = background}) {}

Turns::~Turns() = default;

Turns::Place::Place(std::shared_ptr<State> state, std::shared_ptr<Entry> entry)
    : state_(std::move(state)), entry_(std::move(entry)) {}

Turns::Place::~Place() {
  if (entry_->active) {
    state_->end(*entry_);
    state_->next();
  } else {
    state_->waiting[static_cast<size_t>(entry_->kind)].remove(entry_);
  }
}

std::unique_ptr<Turns::Place> Turns::ask(TurnKind kind, std::function<void()> go) {
  auto entry = std::make_shared<Entry>(Entry{kind, std::move(go)});
  state_->waiting[static_cast<size_t>(kind)].push_back(entry);
  std::unique_ptr<Place> place(new Place(state_, std::move(entry)));
  state_->next();
  return place;
}

std::unique_ptr<Turns::Place> Turns::ask_now(TurnKind kind) {
  const bool nobody_waits = std::all_of(state_->waiting.begin(), state_->waiting.end(),
                                        [](const auto& queue) { return queue.empty(); });
  if (!nobody_waits || !state_->has_room(kind)) return nullptr;
  auto entry = std::make_shared<Entry>(Entry{kind, nullptr});
  state_->begin(*entry);
  return std::unique_ptr<Place>(new Place(state_, std::move(entry)));
}

uint32_t Turns::active() const { return state_->active; }

}  // namespace baton::s3
