// A prompt that the host tier holds, into an engine's blocks: the node's own load, keys, look-up,
// verification and the engine's waiting included. Against the same shuffled copies as a bare loop.
#include "connectors/decode_session.h"
#include "connectors/prefill_session.h"
#include "perf/bare_copy.h"
#include "perf/side.h"
#include "perf/sizes.h"
#include "perf/tier.h"
#include "transfer/arena.h"
#include "transfer/base/mutex.h"

namespace baton::bench {
namespace {

constexpr Duration kDeadline = std::chrono::seconds(60);

// Callbacks may come after this is gone.
class News {
 public:
  std::function<void()> tell() {
    return [state = state_] {
      MutexLock lock(state->mutex);
      ++state->told;
      state->changed.notify_all();
    };
  }
  // Asks again after each callback, and now and then: not all that a session says calls back.
  template <typename Condition>
  Status wait(const char* what, Condition&& condition) {
    const TimePoint deadline = now() + kDeadline;
    while (true) {
      uint64_t told;
      {
        MutexLock lock(state_->mutex);
        told = state_->told;
      }
      if (condition()) return ok_status();
      if (now() >= deadline)
        return Status(Code::kDeadlineExceeded, std::string(what) + " did not come in time");
      MutexLock lock(state_->mutex);
      if (state_->told == told)
        state_->changed.wait_until(state_->mutex, now() + std::chrono::milliseconds(5));
    }
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    uint64_t told BATON_GUARDED_BY(mutex) = 0;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

class HostHits {
 public:
  static Result<std::unique_ptr<HostHits>> create(const Spec& spec) {
    BATON_ASSIGN_OR_RETURN(auto side, Side::create(spec, /*sends=*/true));
    BATON_ASSIGN_OR_RETURN(auto payloads, Arena::create({.name = "baton-bench-payloads",
                                                         .bytes = side->pool().bytes().size()}));
    std::unique_ptr<HostHits> hits(new HostHits(std::move(side), std::move(payloads)));
    BATON_RETURN_IF_ERROR(hits->keep());
    return hits;
  }

  uint64_t bytes() const { return side_->pool().bytes().size(); }

  Result<double> ours(bool wrong) {
    const std::vector<uint32_t>& to = next_blocks();
    News news, released;
    const double began = seconds_now();
    BATON_ASSIGN_OR_RETURN(const auto session,
                           DecodeSession::create(side_->node(),
                                                 {.handoff = {HandoffId::random(), 1},
                                                  .flow = protocol::Flow::kFetch,
                                                  .tokens = tokens_},
                                                 news.tell(), released.tell()));
    BATON_RETURN_IF_ERROR(news.wait("the host tier's offer",
                                    [&] { return session->poll().state != LoadState::kWaiting; }));
    if (session->poll().state != LoadState::kOffered) return session->poll().why;
    session->accept(to, 0);
    const auto over = [&] {
      const LoadState state = session->poll().state;
      return state == LoadState::kLoaded || state == LoadState::kFailed;
    };
    BATON_RETURN_IF_ERROR(news.wait("the prompt", over));
    const double seconds = seconds_now() - began;
    if (session->poll().state == LoadState::kFailed) return session->poll().why;
    const bool all = session->poll().tokens == tokens_.size();
    session->done();
    if (!all) return Status(Code::kInternal, "only a part of the prompt was held");
    BATON_RETURN_IF_ERROR(check(to, wrong));
    return seconds;
  }

  Result<double> bare() {
    const std::vector<uint32_t>& to = next_blocks();
    const double began = seconds_now();
    for_each_segment(to, [&](const KvSegment& segment, std::byte* payload) {
      bare_scatter(runs_, segment, payload);
    });
    const double seconds = seconds_now() - began;
    BATON_RETURN_IF_ERROR(check(to, false));
    return seconds;
  }

 private:
  HostHits(std::unique_ptr<Side> side, std::unique_ptr<Arena> payloads)
      : side_(std::move(side)),
        payloads_(std::move(payloads)),
        kv_(side_->pool().kv()),
        order_(natural_order(kv_.layout)),
        runs_(kv_.layout, order_),
        from_(shuffled_blocks(side_->pool().blocks(), 0)),
        tokens_(prompt_tokens(side_->pool().blocks() * kv_.layout.block_tokens)) {}

  // Has the node keep the prompt in its host tier, and gathers the same payloads for the reference.
  Status keep() {
    News news;
    BATON_ASSIGN_OR_RETURN(
        const auto session,
        PrefillSession::create(
            side_->node(),
            {.handoff = {HandoffId::random(), 1}, .lease = Duration::zero(), .tokens = tokens_},
            news.tell()));
    session->begin(from_, 0);
    for (uint32_t layer = 0; layer < kv_.layer_base.size(); ++layer)
      session->layer_ready(layer, static_cast<uint32_t>(tokens_.size()));
    session->finish();
    for_each_segment(from_, [&](const KvSegment& segment, std::byte* payload) {
      bare_gather(runs_, segment, payload);
    });
    return news.wait("the end of the prefill", [&] { return session->report().end.has_value(); });
  }

  // The pool's blocks in another order, written over.
  const std::vector<uint32_t>& next_blocks() {
    const std::vector<uint32_t>& to = to_.get(side_->pool().blocks(), ++turn_);
    side_->pool().poison();
    return to;
  }

  Status check(const std::vector<uint32_t>& to, bool wrong) {
    if (wrong) *side_->pool().block(0, to[0]) ^= std::byte{1};
    const uint64_t words = side_->pool().wrong_words(from_, to);
    if (words == 0) return ok_status();
    return Status(Code::kChecksum, std::to_string(words) + " words are not what was kept");
  }

  template <typename Copy>
  void for_each_segment(const std::vector<uint32_t>& blocks, Copy&& copy) {
    const uint32_t chunk_tokens = side_->spec().chunk_tokens();
    std::byte* payload = payloads_->data();
    for (uint32_t first = 0; first < tokens_.size(); first += chunk_tokens) {
      const uint32_t count = std::min(chunk_tokens, static_cast<uint32_t>(tokens_.size()) - first);
      for (std::byte* base : kv_.layer_base) {
        copy(KvSegment{base, kv_.layout, blocks.data() + first / kv_.layout.block_tokens, count},
             payload);
        payload += segment_bytes(kv_.layout, count);
      }
    }
  }

  const std::unique_ptr<Side> side_;
  const std::unique_ptr<Arena> payloads_;  // of all segments, by chunk and layer
  const KvMemory kv_;
  const PayloadOrder order_;
  const BareRuns runs_;
  const std::vector<uint32_t> from_;  // where the blocks lay that are kept
  const std::vector<uint32_t> tokens_;
  BlockOrder to_;
  uint64_t turn_ = 0;
};

}  // namespace

Status measure_host_hit(Run& run, const TierOptions& options) {
  Spec spec{.layers = options.layers, .retained = true};
  BATON_ASSIGN_OR_RETURN(spec.pool_bytes, parse_bytes(options.bytes));
  BATON_ASSIGN_OR_RETURN(spec.segment_bytes, parse_bytes(options.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const auto block_list, parse_byte_list(options.block_bytes));
  for (const uint64_t block_bytes : block_list) {
    spec.block_bytes = block_bytes;
    if (spec.pool_bytes < block_bytes * spec.layers)
      return Status(Code::kInvalidArgument, "--bytes: " + options.bytes +
                                                " is less than one block " + "of all layers, " +
                                                bytes_text(block_bytes * spec.layers));
    Json parameters = {{"tier", "host"},
                       {"operation", "hit"},
                       {"block_bytes", block_bytes},
                       {"segment_bytes", spec.segment_bytes},
                       {"layers", spec.layers}};
    run.progress.begin("tier " + parameters.dump());
    BATON_ASSIGN_OR_RETURN(const auto hits, HostHits::create(spec));
    const auto ours = [&, checks = 0u]() mutable {
      return hits->ours(++checks == run.common.corrupt);
    };
    BATON_ASSIGN_OR_RETURN(const auto series, measure({{"host hit", ours},
                                                       {"bare loop", [&] { return hits->bare(); }}},
                                                      run.common.samples_or(15), run.progress));
    run.report.add({.name = "tier",
                    .parameters = std::move(parameters),
                    .bytes = hits->bytes(),
                    .reference = "the same shuffled copies as a bare loop",
                    .ours = series[0],
                    .against = series[1],
                    .blame = "verify_scatter"});
  }
  return ok_status();
}

}  // namespace baton::bench
