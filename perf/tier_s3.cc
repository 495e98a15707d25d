// How fast are chunks put to S3 and got back, verified, and how soon is the first layer there?
// Against plain libcurl, as many objects of the same size over as many connections, at the same
// service.
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "perf/program.h"
#include "perf/reference_s3.h"
#include "perf/sizes.h"
#include "perf/tier.h"
#include "perf/tier_driver.h"
#include "transfer/tiers/s3/s3_tier.h"

namespace baton::bench {
namespace {

constexpr uint32_t kChunks = 8;
constexpr uint32_t kSamples = 5;
constexpr auto kStartPatience = std::chrono::minutes(5);
constexpr size_t kHeaderBytes = 16384;  // of an object of the tier's

// A service of this measurement's own: Ceph's gateway on loopback.
class OwnService {
 public:
  static Result<std::unique_ptr<OwnService>> start(const std::string& parent) {
    std::string folder = std::filesystem::path(parent) / "baton-bench-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr)
      return Status(Code::kInvalidArgument, Status::from_errno(parent, errno).message());
    std::unique_ptr<OwnService> service(new OwnService(folder));
    BATON_ASSIGN_OR_RETURN(service->program_,
                           Program::start({"/usr/bin/python3", "-B", BATON_S3_GATEWAY,
                                           folder + "/s3", "baton-bench"}));
    BATON_ASSIGN_OR_RETURN(const std::string line, service->program_->line(kStartPatience));
    const auto said = nlohmann::json::parse(line, nullptr, false);
    if (!said.is_object() || !said.contains("url"))
      return Status(Code::kUnavailable, "no S3 service of its own (or give --url): " + line);
    service->url_ = said["url"];
    ::setenv("AWS_ACCESS_KEY_ID", said.value("access", "").c_str(), 1);
    ::setenv("AWS_SECRET_ACCESS_KEY", said.value("secret", "").c_str(), 1);
    return service;
  }
  ~OwnService() {
    program_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  const std::string& url() const { return url_; }

 private:
  explicit OwnService(std::string folder) : folder_(std::move(folder)) {}
  const std::string folder_;
  std::unique_ptr<Program> program_;
  std::string url_;
};

struct Case {
  TierCase tier;
  s3::S3Config where;
  uint32_t connections;

  Json parameters(const char* operation) const {
    return {{"tier", "s3"},          {"operation", operation},
            {"layers", tier.layers}, {"segment_bytes", tier.segment_bytes},
            {"chunks", tier.chunks}, {"connections", connections}};
  }
};

Status answer_layer(const Case& c, TierDriver& driver, PlainS3& plain, uint64_t object_bytes,
                    Run& run) {
  uint32_t chunk = 0;
  BATON_ASSIGN_OR_RETURN(
      const auto series,
      measure({{"tier", [&] { return driver.first_layer(chunk++ % c.tier.chunks); }},
               {"plain", [&] { return plain.get(1, object_bytes); }},
               {"round trip", [&] { return plain.round_trip(); }}},
              run.common.samples_or(kSamples), run.progress));
  Line line{.name = "tier",
            .parameters = c.parameters("first layer"),
            .bytes = std::nullopt,
            .reference = "a whole object of that size by plain libcurl",
            .ours = series[0],
            .against = series[1]};
  const double trip = median(series[2]);
  const double bound = 1.1 * (median(series[1]) / c.tier.layers + 2 * trip);
  line.also["round_trip_ms"] = trip * 1e3;
  line.also["bound_ms"] = bound * 1e3;
  line.also["share_of_bound"] = bound / median(series[0]);
  run.report.add(line);
  return ok_status();
}

Status answer_one(const Case& c, Run& run) {
  run.progress.begin("tier s3 segment_bytes=" + std::to_string(c.tier.segment_bytes) +
                     " connections=" + std::to_string(c.connections));
  BATON_ASSIGN_OR_RETURN(
      const auto driver,
      TierDriver::create(c.tier, run.common,
                         [&](boost::asio::io_context& io, const std::shared_ptr<SlotPool>&,
                             Metrics& metrics) { return s3::S3Tier::open(io, c.where, metrics); }));
  BATON_ASSIGN_OR_RETURN(const auto plain, PlainS3::create(c.where, c.connections));
  const std::vector<std::byte> object(kHeaderBytes + c.tier.chunk_bytes(), std::byte{0x5a});
  for (const bool write : {true, false}) {
    BATON_ASSIGN_OR_RETURN(
        const auto series,
        measure({{"tier", [&] { return write ? driver->store_all() : driver->read_all(); }},
                 {"plain",
                  [&] {
                    return write ? plain->put(c.tier.chunks, object)
                                 : plain->get(c.tier.chunks, object.size());
                  }}},
                run.common.samples_or(kSamples), run.progress));
    run.report.add({.name = "tier",
                    .parameters = c.parameters(write ? "store" : "read"),
                    .bytes = c.tier.bytes(),
                    .reference = "as many objects of that size, plain libcurl, as many connections",
                    .ours = series[0],
                    .against = series[1]});
  }
  return answer_layer(c, *driver, *plain, object.size(), run);
}

}  // namespace

Status measure_s3(Run& run, const TierOptions& options) {
  std::unique_ptr<OwnService> own;
  std::string url = options.url;
  BATON_ASSIGN_OR_RETURN(const auto segments, parse_byte_list(options.segment_bytes));
  BATON_ASSIGN_OR_RETURN(const auto connections, parse_byte_list(options.connections));
  for (const uint64_t count : connections)
    if (count == 0 || count > 256)
      return Status(Code::kInvalidArgument,
                    "--connections is " + std::to_string(count) + ": expected 1 to 256");
  if (url.empty()) {
    BATON_ASSIGN_OR_RETURN(own, OwnService::start(options.folder));
    url = own->url();
  }
  BATON_ASSIGN_OR_RETURN(s3::S3Config where, s3::parse_s3_url(url));
  for (const uint64_t segment_bytes : segments) {
    for (const uint64_t count : connections) {
      const uint32_t chunks = options.chunks == 0 ? kChunks : options.chunks;
      Case c{.tier = {.layers = options.layers,
                      .segment_bytes = segment_bytes,
                      .chunks = chunks,
                      .slot_bytes = options.layers * segment_bytes},
             .where = where,
             .connections = static_cast<uint32_t>(count)};
      c.tier.window = std::min(chunks, c.connections);
      c.where.connections = c.connections;
      c.where.store_share = 1;  // stores and reads are measured apart
      BATON_RETURN_IF_ERROR(answer_one(c, run));
    }
  }
  return ok_status();
}

}  // namespace baton::bench
