// What a node does: it owns the parts, routes messages and segments to the handoffs they belong to,
// and runs everything on one progress thread. Internal to transfer/ and connectors/.
//
// start_sending and start_receiving are thread-safe; the rest is confined to the progress thread.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <thread>
#include <unordered_map>

#include "transfer/keeping.h"
#include "transfer/node_core.h"
#include "transfer/node_http.h"
#include "transfer/node_tier.h"
#include "transfer/peer_link.h"
#include "transfer/receiving.h"
#include "transfer/sending.h"

namespace baton {

class Node::Impl final : public control::PeerEvents,
                         public SegmentOwner,
                         public NodeTier::Neighbours {
 public:
  static Result<std::unique_ptr<Impl>> create(NodeConfig config);
  ~Impl() override;

  const NodeCore& core() const { return core_; }
  Metrics& metrics() { return core_.metrics; }
  HostPort address() const { return control_->address(); }
  const std::string& advertised() const { return control_->hello().node; }
  std::optional<HostPort> http_address() const;

  // A prefill session's handoff; `peer` empty: two-step flow. `feed`'s wake must post on_feed().
  Status start_sending(SendRequest request, std::vector<HostPort> peer,
                       std::shared_ptr<SendFeed> feed, std::function<void()> on_released);
  Status start_receiving(ReceiveRequest request, std::vector<HostPort> peer,
                         std::shared_ptr<ReceiveFeed> feed, std::function<void()> on_released);
  // Drains the feed of the handoff of that role; thread-safe.
  void wake(HandoffRole role, const HandoffAttempt& handoff);
  // The router says that the prefiller's leg failed; thread-safe. `attempt` 0: all of them.
  void fail(const HandoffId& id, uint32_t attempt, const std::string& reason);
  // See Node::drop_chunks.
  Result<size_t> drop_chunks(Duration deadline);
  // Live handoffs and slots, for people. Thread-safe; waits for the progress thread, at most
  // `deadline`.
  Result<nlohmann::json> debug_handoffs(Duration deadline);
  // Brings the gauges up to date. Thread-safe.
  void refresh_gauges();

  // --- control::PeerEvents
  void on_up(const std::shared_ptr<control::Peer>& peer) override;
  void on_message(control::Peer& peer, protocol::Message message) override;
  void on_stalled(control::Peer& peer) override;
  void on_resumed(control::Peer& peer) override;
  void on_down(control::Peer& peer, const Status& why) override;

  // --- SegmentOwner
  std::variant<ChannelEvents::Otherwise, SegmentPlace> place(PeerLink& link,
                                                             const SegmentHeader& header) override;
  void on_placed(PeerLink& link, const SegmentHeader& header,
                 const Result<Checksum>& checksum) override;
  void on_segment(PeerLink& link, const SegmentHeader& header, ReceivedBytes payload) override;

 private:
  explicit Impl(NodeConfig config);
  Status start();
  void run();  // the progress thread
  Status reserve_memory();
  Result<uint64_t> slabs_of_store() const;
  Status open_nvme(uint64_t slab_bytes);
  Result<std::unique_ptr<Copier>> make_copier();
  Status open_endpoints(ChannelIdentity identity);
  Result<std::unique_ptr<ChannelEndpoint>> open_ucx(ChannelIdentity identity);
  void stop();
  void begin_stop();
  void connect(const HostPort& peer, std::function<void(Result<std::shared_ptr<PeerLink>>)> done);
  std::shared_ptr<PeerLink> link_of(control::Peer& peer);
  // Whoever receives that handoff here; null: nobody.
  std::shared_ptr<Receiver> receiver(const HandoffAttempt& handoff) const;
  // The same, where it is from that peer.
  std::shared_ptr<Receiver> receiver_from(const PeerLink& link,
                                          const HandoffAttempt& handoff) const;
  void on_sender_message(const std::shared_ptr<PeerLink>& link, const protocol::Message& message,
                         const HandoffAttempt& handoff);
  void on_new_receiving(const std::shared_ptr<PeerLink>& link, const protocol::Message& message,
                        const HandoffAttempt& handoff);
  void on_fetch(const std::shared_ptr<PeerLink>& link, const protocol::Fetch& fetch);
  // A sender of that handoff, of whichever attempt, that still gathers what it retains; or null.
  std::shared_ptr<Sending> retaining(const HandoffId& handoff) const;
  // Offers an engine what its own node's tiers keep of its prompt.
  void offer_own(const std::shared_ptr<Receiving>& receiving, const std::vector<ChunkKey>& keys);
  // Reads what the tiers below the host's have of the leading chunks that a peer asks for into the
  // host tier, as far as there is room; then `then`. Ends with `sending`.
  void bring_up(const std::shared_ptr<Sending>& sending, const PeerLink& link,
                const protocol::Fetch& fetch, TimePoint deadline, std::function<void()> then);
  TimePoint find_deadline() const;
  std::vector<ChunkId> ids_of(const std::vector<ChunkKey>& keys) const;
  // The longest leading run of these that the host tier has.
  std::vector<HostTier::Pin> held(const std::vector<ChunkKey>& keys);
  std::vector<std::shared_ptr<Sending>> sendings_of(const PeerLink& link) const;
  std::vector<std::shared_ptr<Receiver>> receivers_of(const PeerLink& link) const;
  std::shared_ptr<Receiving> make_receiving(const HandoffAttempt& handoff);
  std::shared_ptr<Keeping> make_keeping(const HandoffAttempt& handoff);
  void cut_slots(const protocol::Hello& peer);
  static bool slots_fit(const protocol::Hello& peer);

  // --- other nodes as tiers
  void look_up(const HostPort& peer, TenantId tenant, std::vector<ChunkId> ids, TimePoint deadline,
               OnFound done) override;
  Result<std::shared_ptr<Keeping>> fetch_chunk(const HostPort& peer,
                                               Keeping::Wanted wanted) override;
  void send_chunk(const HostPort& peer, Chunk chunk, TimePoint deadline,
                  Tier::OnDone done) override;
  void on_lookup(const std::shared_ptr<PeerLink>& link, const protocol::Lookup& lookup);
  // A handoff that this node's engine has prefilled for somebody who is to FETCH it.
  bool held_for(const HandoffAttempt& handoff) const;
  // Of what model chunks are that this peer speaks of.
  FingerprintDigest origin_of(const PeerLink& link) const;
  void answered(uint64_t question, Result<std::vector<bool>> found);
  void leave_unanswered(const PeerLink& link, const Status& why);

  Sending::OnGone sending_gone();
  void finish_stop_if_idle();
  nlohmann::json describe() const;

  NodeCore core_;
  ChannelMemory memory_;
  std::shared_ptr<ChannelSessions> sessions_;  // null: neither token nor TLS
  std::unique_ptr<Channels> channels_;
  std::unique_ptr<control::ControlPlane> control_;
  std::unique_ptr<NodeHttp> http_;
  std::unordered_map<control::Peer*, std::shared_ptr<PeerLink>> links_;
  std::unordered_map<HandoffAttempt, std::shared_ptr<Sending>> sendings_;
  std::unordered_map<HandoffAttempt, std::shared_ptr<Sending>> holdings_;  // two-step flow
  std::unordered_map<HandoffAttempt, std::shared_ptr<Receiving>> receivings_;
  std::unordered_map<HandoffAttempt, std::shared_ptr<Keeping>> keepings_;
  // LOOKUPs that wait for their FOUND.
  struct Question {
    const PeerLink* peer = nullptr;
    OnFound done;
    std::shared_ptr<boost::asio::steady_timer> timer;
  };
  std::unordered_map<uint64_t, Question> questions_;
  uint64_t asked_ = 0;
  uint32_t lookups_ = 0;  // of peers, that are not answered yet
  uint32_t records_ = 0;  // receivings that nobody has claimed
  bool stopping_ = false;
  std::function<void()> on_idle_;  // stopping: called when the last handoff is gone
  boost::asio::steady_timer tiers_hang_;

  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

}  // namespace baton
