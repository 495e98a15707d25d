// What all requests of one S3 tier share: the connections, whose turn it is, whether the service
// works, and the counts.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <random>
#include <string>

#include "scheduler/breaker.h"
#include "transfer/tiers/s3/hedging.h"
#include "transfer/tiers/s3/http_loop.h"
#include "transfer/tiers/s3/s3_config.h"
#include "transfer/tiers/s3/s3_metrics.h"
#include "transfer/tiers/s3/turns.h"
#include "transfer/tiers/s3/urls.h"

namespace baton::s3 {

class Service {
 public:
  Service(boost::asio::io_context& io, const S3Config& config, std::unique_ptr<HttpLoop> http,
          Metrics& metrics);

  // Whether something may be begun now. Where it may not, `trouble` says why.
  bool allows();
  // A try's outcome: the service answered as one that works, or did not.
  void worked();
  void failed(const std::string& why);
  bool available() const;
  const std::string& trouble() const { return trouble_; }

  // Before the try that comes after so many failed ones.
  Duration pause_after(uint32_t tries);

  // Whether PUT with If-None-Match is understood; told once.
  bool conditional() const { return conditional_; }
  void not_conditional(const std::string& why);

  boost::asio::io_context& io;
  const S3Config config;
  const Urls urls;
  S3Metrics metrics;
  const std::unique_ptr<HttpLoop> http;
  Turns turns;
  Hedging hedging;

 private:
  scheduler::Breaker breaker_;
  std::string trouble_;
  bool open_ = false;  // as was logged
  bool conditional_ = true;
  std::minstd_rand random_;
};

}  // namespace baton::s3
