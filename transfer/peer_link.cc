#include "transfer/peer_link.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "scheduler/segment_order.h"
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
  give_up_ = [&local, events] { local.give_up(*events); };
  local.open(peer_->hello(), peer_->dialled(), *events,
             [weak = weak_from_this()](Result<std::unique_ptr<Channel>> channel) {
               if (const auto self = weak.lock()) self->opened(std::move(channel));
             });
}

void PeerLink::opened(Result<std::unique_ptr<Channel>> channel) {
  if (down_) return;
  give_up_ = nullptr;
  if (!channel.ok()) {
    no_channel_ = Status(Code::kUnavailable,
                         "no channel to node " + node() + ": local: " + channel.status().message());
    log::warn("{}", no_channel_.message());
    for (const Sender& sender : std::vector(senders_))
      sender.sending->abort(protocol::End::kFailed, no_channel_);
    // A connection without a channel is of no use; whoever wants the peer next starts anew.
    peer_->close(no_channel_);
    return;
  }
  channel_ = std::move(channel).value();
  if (core_.config.seams.channel) channel_ = core_.config.seams.channel(std::move(channel_));
  log::info("channel open peer={} transport={}", node(), channel_->transport());
  pump();
}

void PeerLink::down(const Status& why) {
  down_ = true;
  senders_.clear();
  if (const auto give_up = std::exchange(give_up_, nullptr)) give_up();
  if (channel_) channel_->close(why);
}

void PeerLink::add(std::shared_ptr<Sending> sending) {
  if (!no_channel_.ok()) return sending->abort(protocol::End::kFailed, no_channel_);
  senders_.push_back({std::move(sending)});
}

void PeerLink::remove(const Sending& sending) {
  std::erase_if(senders_, [&](const Sender& s) { return s.sending.get() == &sending; });
}

void PeerLink::forget(const HandoffAttempt& handoff) {
  if (channel_) channel_->forget(handoff);
}

std::shared_ptr<Sending> PeerLink::pick() {
  std::vector<scheduler::SendCandidate> candidates;
  std::vector<Sender*> ready;
  for (Sender& sender : senders_) {
    const std::optional<uint64_t> bytes = sender.sending->next_bytes();  // within its window
    if (!bytes) continue;
    candidates.push_back({.next_bytes = *bytes,
                          .window_left = *bytes,
                          .unacknowledged_bytes = sender.sending->unacknowledged_bytes(),
                          .last_sent = sender.last_sent});
    ready.push_back(&sender);
  }
  const std::optional<size_t> next = scheduler::next_to_send(candidates);
  if (!next) return nullptr;
  ready[*next]->last_sent = ++sends_;
  return ready[*next]->sending;
}

void PeerLink::pump() {
  if (!channel_ || down_) return;
  // Segments from slots go at once. One gather into staging memory at a time: each segment leaves
  // while the next is gathered, and its completion pumps again.
  while (const std::shared_ptr<Sending> next = pick()) {
    const bool busy = std::any_of(senders_.begin(), senders_.end(), [](const Sender& s) {
      return s.sending->gathering_for_channel();
    });
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
