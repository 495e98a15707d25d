// How much of a transfer hides behind the prefill? Against max(C,T) + min(C,T)/L, with C (compute
// of L layers) and T (the transfer) measured alone.
#include <sys/prctl.h>

#include <algorithm>
#include <thread>

#include "perf/pair_options.h"

namespace baton::bench {
namespace {

constexpr double kRatios[] = {0.1, 0.3, 1, 3, 10};  // T/C
constexpr int kTransfersBefore = 5;

// "Computes" layers one after the other; each takes its part of the whole, counted from the
// beginning, so that what one wake-up comes late is not added to the next layer.
class LayerClock {
 public:
  LayerClock(double seconds, uint32_t layers, bool busy)
      : seconds_(seconds), layers_(layers), busy_(busy) {}

  template <typename Ready>
  void run(Ready&& ready) const {
    const TimePoint began = now();
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      const auto part = std::chrono::duration<double>(seconds_ * (layer + 1) / layers_);
      const TimePoint until = began + std::chrono::duration_cast<Duration>(part);
      while (busy_ && now() < until) {
      }
      std::this_thread::sleep_until(until);
      ready(layer);
    }
  }

 private:
  const double seconds_;
  const uint32_t layers_;
  const bool busy_;
};

class Pipeline {
 public:
  explicit Pipeline(Pair& pair) : pair_(pair), blocks_(pair.side().pool().blocks()) {}

  Result<double> transfer() {
    BATON_ASSIGN_OR_RETURN(const Pair::Landed landed, pair_.hand_off(1, blocks_));
    return landed.seconds;
  }
  Result<double> compute(const LayerClock& clock) const {
    const double began = seconds_now();
    clock.run([](uint32_t) {});
    return seconds_now() - began;
  }
  Result<double> both(const LayerClock& clock) {
    BATON_ASSIGN_OR_RETURN(
        const Pair::Landed landed,
        pair_.hand_off(1, blocks_, 0, [&](PrefillSession& session, uint32_t tokens) {
          clock.run([&](uint32_t layer) { session.layer_ready(layer, tokens); });
        }));
    return landed.seconds;
  }

 private:
  Pair& pair_;
  const uint32_t blocks_;
};

Status answer_ratio(Run& run, const PairOptions& options, Pair& pair, double ratio,
                    double transfer_seconds) {
  const Spec& spec = pair.spec();
  Json parameters = pair_parameters(spec, options);
  parameters["t_over_c"] = ratio;
  run.progress.begin("pipeline " + parameters.dump());
  Pipeline pipeline(pair);
  const LayerClock clock(transfer_seconds / ratio, spec.layers, false);
  const LayerClock busy(transfer_seconds / ratio, spec.layers, true);
  Usage usage;  // of the pipelined handoffs alone
  BATON_ASSIGN_OR_RETURN(const auto series,
                         measure({{"pipeline",
                                   [&] {
                                     std::swap(usage, pair.usage);
                                     const auto seconds = pipeline.both(clock);
                                     std::swap(usage, pair.usage);
                                     return seconds;
                                   }},
                                  {"transfer alone", [&] { return pipeline.transfer(); }},
                                  {"compute alone", [&] { return pipeline.compute(clock); }},
                                  {"busy compute", [&] { return pipeline.both(busy); }}},
                                 run.common.samples_or(7), run.progress));
  Series bound;
  for (size_t i = 0; i < series[0].size(); ++i) {
    const double t = series[1][i], c = series[2][i];
    bound.push_back(std::max(c, t) + std::min(c, t) / spec.layers);
  }
  const double t = median(series[1]), c = median(series[2]);
  Line line{.name = "pipeline",
            .parameters = std::move(parameters),
            .bytes = spec.bytes_of(pair.side().pool().blocks()),
            .reference = "max(C,T) + min(C,T)/L, C and T measured alone",
            .ours = series[0],
            .against = bound,
            .blame = c >= t ? "wait_compute" : usage.blame()};
  line.also["compute_ms"] = rounded(c * 1e3);
  line.also["transfer_ms"] = rounded(t * 1e3);
  line.also["speed_up"] = rounded((c + t) / median(series[0]));
  line.also["busy_compute_ms"] = rounded(median(series[3]) * 1e3);
  line.also["busy_compute_ratio"] = rounded(median(bound) / median(series[3]));
  usage.describe(line.also);
  run.report.add(line);
  return ok_status();
}

Status answer(const PairOptions& options, Run& run) {
  BATON_ASSIGN_OR_RETURN(const auto specs, pair_specs(options, run.common));
  BATON_ASSIGN_OR_RETURN(const auto connect, other_host(options));
  ::prctl(PR_SET_TIMERSLACK, 1);  // timed waits end when they should
  for (const Spec& spec : specs) {
    BATON_ASSIGN_OR_RETURN(const auto pair, Pair::create(spec, connect));
    Pipeline pipeline(*pair);
    Series transfers;
    for (int i = 0; i < kTransfersBefore; ++i) {
      BATON_ASSIGN_OR_RETURN(const double seconds, pipeline.transfer());
      transfers.push_back(seconds);
    }
    for (const double ratio : kRatios)
      BATON_RETURN_IF_ERROR(answer_ratio(run, options, *pair, ratio, median(transfers)));
  }
  return ok_status();
}

}  // namespace

Question add_pipeline(const Command& app) {
  auto options = std::make_shared<PairOptions>();
  Command command = app.add_command("pipeline", "how much of a transfer hides behind the prefill");
  add_pair_options(command, *options);
  return {command, [options](Run& run) { return answer(*options, run); }};
}

}  // namespace baton::bench
