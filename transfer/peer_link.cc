#include "transfer/peer_link.h"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "transfer/base/log.h"
#include "transfer/sending.h"

namespace baton {

PeerLink::PeerLink(NodeCore& core, std::shared_ptr<control::Peer> peer, OnSegment on_segment)
    : core_(core), peer_(std::move(peer)), on_segment_(std::move(on_segment)) {}

void PeerLink::open(local::LocalEndpoint& local) {
  ChannelEvents* events = this;
  if (core_.config.seams.channel_events) {
    decorated_events_ = core_.config.seams.channel_events(*this);
    events = decorated_events_.get();
  }
  local.open(peer_->hello(), peer_->dialled(), *events,
             [weak = weak_from_this()](Result<std::unique_ptr<Channel>> channel) {
               if (const auto self = weak.lock()) self->opened(std::move(channel));
             });
}

void PeerLink::opened(Result<std::unique_ptr<Channel>> channel) {
  if (down_) return;
  if (!channel.ok()) {
    no_channel_ = Status(Code::kUnavailable,
                         "no channel to node " + node() + ": local: " + channel.status().message());
    log::warn("{}", no_channel_.message());
    for (const auto& sending : std::vector(sendings_))
      sending->abort(protocol::End::kFailed, no_channel_);
    return;
  }
  channel_ = std::move(channel).value();
  if (core_.config.seams.channel) channel_ = core_.config.seams.channel(std::move(channel_));
  log::info("channel open peer={} transport={}", node(), channel_->transport());
  pump();
}

void PeerLink::down(const Status& why) {
  down_ = true;
  sendings_.clear();
  if (channel_) channel_->close(why);
}

void PeerLink::add(std::shared_ptr<Sending> sending) {
  if (!no_channel_.ok()) return sending->abort(protocol::End::kFailed, no_channel_);
  sendings_.push_back(std::move(sending));
}

void PeerLink::remove(const Sending& sending) {
  std::erase_if(sendings_, [&](const auto& s) { return s.get() == &sending; });
}

void PeerLink::forget(const HandoffAttempt& handoff) {
  if (channel_) channel_->forget(handoff);
}

std::shared_ptr<Sending> PeerLink::pick() const {
  // The handoff with the fewest bytes on their way goes first: a small one is not stuck behind a
  // large one.
  std::shared_ptr<Sending> best;
  for (const auto& sending : sendings_) {
    if (!sending->next_bytes()) continue;
    if (!best || sending->unacknowledged_bytes() < best->unacknowledged_bytes()) best = sending;
  }
  return best;
}

void PeerLink::pump() {
  if (!channel_ || down_) return;
  // Segments from slots go at once. One gather into staging memory at a time: each segment leaves
  // while the next is gathered, and its completion pumps again.
  while (const std::shared_ptr<Sending> next = pick()) {
    const bool busy = std::any_of(sendings_.begin(), sendings_.end(),
                                  [](const auto& s) { return s->gathering_for_channel(); });
    if (busy || !next->publish_next(*channel_)) return;
  }
}

void PeerLink::measured(uint64_t bytes, Duration busy) {
  constexpr uint64_t kEnoughBytes = 1u << 20;  // below it latency is measured, not goodput
  if (bytes < kEnoughBytes || busy <= Duration::zero()) return;
  // "Recent": older figures fade by a hundredth a handoff.
  best_goodput_ = std::max(best_goodput_ * 0.99, static_cast<double>(bytes) / to_seconds(busy));
}

void PeerLink::on_segment(const SegmentHeader& header, ReceivedBytes payload) {
  if (!down_) on_segment_(*this, header, std::move(payload));
}

void PeerLink::on_staging() { pump(); }

void PeerLink::on_channel_closed(const Status& why) {
  // Its last callback: it must not go while it runs.
  boost::asio::post(core_.io, [channel = std::shared_ptr<Channel>(std::move(channel_))] {});
  if (down_) return;
  // A channel that breaks while the control connection lives: this peer's handoffs cannot go on.
  no_channel_ =
      Status(Code::kUnavailable, "the channel to node " + node() + " broke: " + why.message());
  peer_->close(no_channel_);
}

}  // namespace baton
