// What a router counts.
#pragma once

#include "transfer/base/metrics.h"

namespace baton::router {

// References into the process's Metrics, looked up once. Thread-safe.
class RouterMetrics {
 public:
  explicit RouterMetrics(Metrics& metrics)
      : time_to_first_token(seconds(metrics, "time_to_first_token_seconds",
                                    "From a streamed request's arrival to its first event")),
        inter_token_latency(seconds(metrics, "inter_token_latency_seconds",
                                    "Between two events of a streamed answer")),
        request_latency(seconds(metrics, "e2e_request_latency_seconds",
                                "From a request's arrival to the end of its answer")),
        in_flight(metrics.gauge("baton_router_requests_in_flight", "Requests being served")),
        retries(metrics.counter("baton_router_retries_total", "Requests moved to another decoder")),
        without_prefill(metrics.counter("baton_router_requests_without_prefill_total",
                                        "Requests sent to a decoder alone")),
        clients_gone(metrics.counter("baton_router_clients_gone_total",
                                     "Clients that left before their answer ended")),
        metrics_(metrics) {}

  // `code`: the HTTP status that the client got, or "499" when it left first.
  void count_request(const std::string& route, int code) {
    metrics_
        .counter("baton_router_requests_total", "Requests by their answer's code",
                 {{"route", route}, {"code", std::to_string(code)}})
        .Increment();
  }
  // `reason`: connect, connection_lost, http_<code>, deadline, unhealthy.
  void count_failed_leg(const char* role, const std::string& reason) {
    metrics_
        .counter("baton_router_legs_failed_total", "Legs that failed, by role and reason",
                 {{"role", role}, {"reason", reason}})
        .Increment();
  }

  prometheus::Histogram& time_to_first_token;
  prometheus::Histogram& inter_token_latency;
  prometheus::Histogram& request_latency;
  prometheus::Gauge& in_flight;
  prometheus::Counter& retries;
  prometheus::Counter& without_prefill;
  prometheus::Counter& clients_gone;

 private:
  static prometheus::Histogram& seconds(Metrics& metrics, const std::string& name,
                                        const std::string& help) {
    return metrics.histogram("baton_router_" + name, help, {}, Metrics::seconds_buckets());
  }

  Metrics& metrics_;
};

}  // namespace baton::router
