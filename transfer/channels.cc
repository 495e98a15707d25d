#include "transfer/channels.h"

#include <deque>

#include "transfer/base/log.h"

namespace baton {
namespace {

using OpenDone = ChannelEndpoint::OpenDone;

}  // namespace

// One opening. The dialling side tries one kind after the other; the other side waits for all at
// once and takes the first that comes.
struct Channels::Opening : std::enable_shared_from_this<Opening> {
  protocol::Hello peer;
  bool dial = false;
  ChannelEvents* events = nullptr;
  OpenDone done;  // null once called
  std::vector<ChannelEndpoint*> all;
  std::deque<ChannelEndpoint*> kinds;  // of these, not tried yet
  size_t pending = 0;
  bool given_up = false;
  std::string failures;

  void try_next() {
    ChannelEndpoint* kind = kinds.front();
    kinds.pop_front();
    ++pending;
    kind->open(peer, dial, *events,
               [self = shared_from_this(), kind](Result<std::unique_ptr<Channel>> channel) {
                 self->opened(*kind, std::move(channel));
               });
  }
  void opened(const ChannelEndpoint& kind, Result<std::unique_ptr<Channel>> channel) {
    --pending;
    if (!done) return;  // another kind came first; this one goes, unheard
    if (channel.ok()) {
      const OpenDone deliver = std::exchange(done, nullptr);
      // The others wait no longer: what came later would be taken for the next opening's.
      for (ChannelEndpoint* other : all)
        if (other != &kind) other->give_up(*events);
      return deliver(std::move(channel));
    }
    log::debug("channel not opened peer={} kind={} why=\"{}\"", peer.node, kind.name(),
               channel.status().message());
    failures += (failures.empty() ? "" : "; ") + channel.status().message();
    if (!kinds.empty() && !given_up) return try_next();
    if (pending == 0) std::exchange(done, nullptr)(Status(channel.status().code(), failures));
  }
};

Result<ChannelChoice> parse_channel_choice(std::string_view text) {
  for (const ChannelChoice choice :
       {ChannelChoice::kAuto, ChannelChoice::kLocal, ChannelChoice::kTcp, ChannelChoice::kUcx})
    if (text == channel_choice_name(choice)) return choice;
  return Status(Code::kInvalidArgument,
                "channel is '" + std::string(text) + "': expected auto, local, tcp or ucx");
}

const char* channel_choice_name(ChannelChoice choice) {
  switch (choice) {
    case ChannelChoice::kAuto:
      return "auto";
    case ChannelChoice::kLocal:
      return "local";
    case ChannelChoice::kTcp:
      return "tcp";
    case ChannelChoice::kUcx:
      return "ucx";
  }
  return "unknown";
}

Channels::Channels(ChannelIdentity identity,
                   std::vector<std::unique_ptr<ChannelEndpoint>> endpoints)
    : identity_(std::move(identity)), endpoints_(std::move(endpoints)) {}

void Channels::describe(protocol::Hello& hello) const {
  hello.channel_nonce = identity_.nonce;
  for (const auto& endpoint : endpoints_) endpoint->describe(hello);
}

void Channels::open(const protocol::Hello& peer, bool dial, ChannelEvents& events, OpenDone done) {
  auto opening = std::make_shared<Opening>();
  opening->peer = peer;
  opening->dial = dial;
  opening->events = &events;
  opening->done = std::move(done);
  std::erase_if(openings_, [](const auto& weak) { return weak.expired(); });
  openings_.push_back(opening);
  for (const auto& endpoint : endpoints_)
    if (endpoint->offered(peer)) opening->kinds.push_back(endpoint.get());
  if (opening->kinds.empty()) {
    // Asked all the same: its error says what the peer lacks.
    opening->kinds.push_back(endpoints_.front().get());
  }
  opening->all.assign(opening->kinds.begin(), opening->kinds.end());
  do {
    opening->try_next();
  } while (!dial && !opening->kinds.empty());
}

void Channels::give_up(const ChannelEvents& events) {
  for (const auto& weak : openings_)
    if (const auto opening = weak.lock(); opening && opening->events == &events)
      opening->given_up = true;
  for (const auto& endpoint : endpoints_) endpoint->give_up(events);
}

void Channels::stop() {
  for (const auto& endpoint : endpoints_) endpoint->stop();
}

}  // namespace baton
