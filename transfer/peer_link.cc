#include "transfer/peer_link.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "scheduler/segment_order.h"
#include "scheduler/share_of_bound.h"
#include "transfer/base/log.h"
#include "transfer/sending.h"

namespace baton {

PeerLink::PeerLink(NodeCore& core, std::shared_ptr<control::Peer> peer, SegmentOwner& owner)
    : core_(core),
      peer_(std::move(peer)),
      fingerprint_(digest(peer_->hello().fingerprint)),
      owner_(owner) {}

void PeerLink::open(Channels& channels) {
  ChannelEvents* events = this;
  if (core_.config.seams.channel_events) {
    decorated_events_ = core_.config.seams.channel_events(*this);
    events = decorated_events_.get();
  }
  give_up_ = [&channels, events] { channels.give_up(*events); };
  channels.open(peer_->hello(), peer_->dialled(), *events,
                [self = shared_from_this()](Result<std::unique_ptr<Channel>> channel) {
                  self->opened(std::move(channel));
                });
}

void PeerLink::opened(Result<std::unique_ptr<Channel>> channel) {
  if (down_) return;
  give_up_ = nullptr;
  if (!channel.ok()) {
    no_channel_ = Status(Code::kUnavailable,
                         "no channel to node " + node() + ": " + channel.status().message());
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

// Whose turn it is, of those that need no staging memory, or of all.
PeerLink::Sender* PeerLink::pick(bool staging) {
  // Else each message of a peer with hundreds of handoffs would ask them all.
  if (channel_->full()) return nullptr;
  std::vector<scheduler::SendCandidate> candidates;
  std::vector<Sender*> ready;
  for (Sender& sender : senders_) {
    const std::optional<Sending::Source> source = sender.sending->next_source(*channel_);
    if (!source || (!staging && *source == Sending::Source::kStaging)) continue;
    candidates.push_back({.unacknowledged_bytes = sender.sending->unacknowledged_bytes(),
                          .last_sent = sender.last_sent});
    ready.push_back(&sender);
  }
  const std::optional<size_t> next = scheduler::next_to_send(candidates);
  return next ? ready[*next] : nullptr;
}

void PeerLink::pump() {
  if (!channel_ || down_) return;
  // Segments from slots and blocks go at once. Of gathers into staging memory there are as many at
  // a time as the copier has use for: each segment leaves while the next is gathered, and its
  // completion pumps again. Where there is no staging memory, what needs none still goes;
  // on_staging() pumps again.
  const auto may_gather = [&] {
    uint32_t gathers = 0;
    for (const Sender& s : senders_) gathers += s.sending->gathers_for_channel();
    return gathers < core_.copier->depth();
  };
  bool no_staging = false;
  while (Sender* const next = pick(!no_staging && may_gather())) {
    const bool staging = next->sending->next_source(*channel_) == Sending::Source::kStaging;
    const uint64_t before = std::exchange(next->last_sent, ++sends_);
    // A handoff that ends here leaves senders_; one that finds no room does not.
    if (const auto sending = next->sending; sending->publish_next(*channel_)) continue;
    next->last_sent = before;  // it keeps its turn
    if (!staging) return;      // as much is published as may be
    no_staging = true;
  }
}

void PeerLink::measured(uint64_t bytes, Duration busy) {
  if (bytes < scheduler::kMeasurableBytes || busy <= Duration::zero()) return;
  // "Recent": older figures fade by a hundredth a handoff.
  best_goodput_ = std::max(best_goodput_ * 0.99, static_cast<double>(bytes) / to_seconds(busy));
}

std::variant<ChannelEvents::Otherwise, SegmentPlace> PeerLink::place(const SegmentHeader& header) {
  if (down_) return Otherwise::kDrop;
  return owner_.place(*this, header);
}

// Also when the peer is gone: whoever gave the place waits to hear that it is his again.
void PeerLink::on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) {
  owner_.on_placed(*this, header, checksum);
}

void PeerLink::on_segment(const SegmentHeader& header, ReceivedBytes payload) {
  if (!down_) owner_.on_segment(*this, header, std::move(payload));
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
