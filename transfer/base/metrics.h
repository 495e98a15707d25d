// A process's metrics: prometheus-cpp families by name, and their text form.
//
// Thread-safe. Names are DESIGN.md's ("baton_…"); each room declares its own families beside the
// code that counts.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>
#include <vector>

namespace baton {

class Metrics {
 public:
  Metrics();

  using Labels = prometheus::Labels;
  // The same (name, labels) gives the same object; references live as long as this.
  prometheus::Counter& counter(const std::string& name, const std::string& help,
                               const Labels& labels = {});
  prometheus::Gauge& gauge(const std::string& name, const std::string& help,
                           const Labels& labels = {});
  // `bounds`: upper bounds of the buckets, in the unit of the name.
  prometheus::Histogram& histogram(const std::string& name, const std::string& help,
                                   const Labels& labels, const std::vector<double>& bounds);
  // Buckets for stages of a handoff and of a request: 100 µs to 100 s, in seconds.
  static const std::vector<double>& seconds_buckets();

  // Prometheus text exposition format 0.0.4.
  std::string text() const;

 private:
  std::shared_ptr<prometheus::Registry> registry_;
};

}  // namespace baton
