#include "perf/measure.h"

#include <algorithm>
#include <cmath>

#include "transfer/base/clock.h"

namespace baton::bench {

double quantile(Series values, double share) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

double median(const Series& values) {
  if (values.size() % 2 != 0) return quantile(values, 0.5);
  Series sorted = values;
  std::sort(sorted.begin(), sorted.end());
  return (sorted[sorted.size() / 2 - 1] + sorted[sorted.size() / 2]) / 2;
}

Result<std::vector<Series>> measure(const std::vector<Way>& ways, uint32_t samples,
                                    Progress& progress, uint32_t warm_up) {
  std::vector<Series> out(ways.size());
  for (uint32_t round = 0; round < warm_up + samples; ++round) {
    progress.step(round, warm_up + samples);
    for (size_t i = 0; i < ways.size(); ++i) {
      const size_t way = (i + round) % ways.size();
      Result<double> seconds = ways[way].once();
      if (!seconds.ok())
        return Status(seconds.status().code(), ways[way].name + ": " + seconds.status().message());
      if (round >= warm_up) out[way].push_back(*seconds);
    }
  }
  return out;
}

double seconds_now() { return to_seconds(now().time_since_epoch()); }

}  // namespace baton::bench
