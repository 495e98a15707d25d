#include "transfer/tiers/s3/s3_tier.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <fstream>
#include <utility>

#include "transfer/base/log.h"
#include "transfer/base/text.h"
#include "transfer/tiers/s3/deleting.h"
#include "transfer/tiers/s3/looking.h"
#include "transfer/tiers/s3/s3_tier_impl.h"
#include "transfer/tiers/s3/storing.h"

namespace baton::s3 {

Result<std::unique_ptr<Tier>> S3Tier::open(boost::asio::io_context& io, S3Config config,
                                           Metrics& metrics) {
  BATON_RETURN_IF_ERROR(validate(config));
  if (!config.ca_file.empty() && !std::ifstream(config.ca_file)) {
    return Status(Code::kInvalidArgument,
                  "s3: ca is '" + config.ca_file + "': expected a file that can be read");
  }
  BATON_ASSIGN_OR_RETURN(Credentials credentials, load_credentials(config.profile, env::aws()));
  BATON_ASSIGN_OR_RETURN(auto http, HttpLoop::create(io, {.region = config.region,
                                                          .credentials = std::move(credentials),
                                                          .ca_file = config.ca_file,
                                                          .connect = config.connect,
                                                          .connections = config.connections}));
  log::info("s3: tier endpoint={} bucket={} prefix={} region={} style={} connections={}",
            config.endpoint, config.bucket, config.prefix, config.region,
            config.style == UrlStyle::kPath ? "path" : "virtual", config.connections);
  return std::unique_ptr<Tier>(std::make_unique<S3TierImpl>(io, config, std::move(http), metrics));
}

S3TierImpl::S3TierImpl(boost::asio::io_context& io, const S3Config& config,
                       std::unique_ptr<HttpLoop> http, Metrics& metrics)
    : service_(io, config, std::move(http), metrics),
      known_(config.known_chunks, config.held_ttl, config.absent_ttl),
      close_timer_(io) {}

S3TierImpl::~S3TierImpl() {
  for (Reading* const reading : readings_) reading->abandon();
  service_.metrics.reads.Set(0);
  service_.metrics.stores.Set(0);
}

// Callbacks do not run inside the call that they were given to.
template <typename F>
void S3TierImpl::later(F f) {
  boost::asio::post(service_.io, alive_.guard(std::move(f)));
}

Status S3TierImpl::unavailable() {
  if (closing_) return Status(Code::kUnavailable, "s3: the tier is closing");
  if (!service_.allows()) {
    return Status(Code::kUnavailable,
                  "s3: the service is not asked for a while: " + service_.trouble());
  }
  return ok_status();
}

Tier::Presence S3TierImpl::presence(const ChunkId& id) const { return known_.presence(id, now()); }

bool S3TierImpl::is_going(const ChunkOrigin& origin) const {
  return std::any_of(sweeps_.begin(), sweeps_.end(),
                     [&](const Sweeping* sweep) { return sweep->erases(origin); });
}

void S3TierImpl::find(ChunkOrigin origin, std::vector<ChunkId> ids, TimePoint deadline,
                      OnPresent done) {
  std::vector<bool> present(ids.size());
  bool all_known = true;
  for (size_t i = 0; i < ids.size(); ++i) {
    const Presence presence = this->presence(ids[i]);
    present[i] = presence == Presence::kHeld;
    all_known &= presence != Presence::kUnknown;
  }
  // Only where something is to be asked: the breaker's trial is one.
  const bool ask = !all_known && !is_going(origin) && unavailable().ok();
  if (ask && lookups_ < service_.config.max_lookups)
    return look(origin, ids, std::move(present), deadline, std::move(done));
  if (ask) service_.metrics.rejected("lookup");
  count_found(present);
  later([present = std::move(present), done = std::move(done)] { done(present); });
}

void S3TierImpl::count_found(const std::vector<bool>& present) {
  const auto held = std::count(present.begin(), present.end(), true);
  service_.metrics.hits.Increment(static_cast<double>(held));
  service_.metrics.misses.Increment(static_cast<double>(present.size()) -
                                    static_cast<double>(held));
}

void S3TierImpl::look(const ChunkOrigin& origin, const std::vector<ChunkId>& ids,
                      std::vector<bool> present, TimePoint deadline, OnPresent done) {
  std::vector<ChunkId> asked;
  std::vector<size_t> places;
  const size_t room = service_.config.max_lookups - lookups_;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (presence(ids[i]) != Presence::kUnknown) continue;
    if (asked.size() == room) {
      service_.metrics.rejected("lookup");
      break;
    }
    asked.push_back(ids[i]);
    places.push_back(i);
  }
  lookups_ += static_cast<uint32_t>(asked.size());
  auto holder = std::make_shared<const Operation*>(nullptr);
  auto looking = std::make_unique<Looking>(
      service_, origin, asked, deadline,
      [this, holder, asked, places, present = std::move(present),
       done = std::move(done)](const std::vector<Looking::Seen>& seen) mutable {
        lookups_ -= static_cast<uint32_t>(asked.size());
        for (size_t i = 0; i < seen.size(); ++i) {
          present[places[i]] = seen[i].held;
          if (!seen[i].known) continue;
          // What was erased since it was asked for stays so.
          if (presence(asked[i]) == Presence::kAbsent)
            present[places[i]] = false;
          else if (seen[i].held)
            known_.held(asked[i], seen[i].bytes, now());
          else
            known_.absent(asked[i], now());
        }
        count_found(present);
        end(*holder);
        done(std::move(present));
      });
  *holder = looking.get();
  operations_.add(std::move(looking));
}

Status S3TierImpl::too_many(const char* what, uint64_t under_way) {
  service_.metrics.rejected(what);
  return Status(Code::kResourceExhausted, std::string("s3: another ") + what + " while " +
                                              number(under_way) + " are under way");
}

Status S3TierImpl::check_store(const Chunk& chunk) {
  if (presence(chunk.id) == Presence::kHeld)
    return Status(Code::kExists, "s3: the object is there already");
  if (stores_ >= service_.config.max_stores) return too_many("store", stores_);
  return unavailable();
}

void S3TierImpl::store(Chunk chunk, TimePoint deadline, OnDone done) {
  const auto header = encode_header(chunk);
  const Status status = header.ok() ? check_store(chunk) : header.status();
  if (!status.ok()) return later([done = std::move(done), status] { done(status); });
  service_.metrics.stores.Set(++stores_);
  auto holder = std::make_shared<const Operation*>(nullptr);
  const ChunkId id = chunk.id;
  const uint64_t bytes = chunk.segment_bytes * chunk.checksums.size();
  auto storing = std::make_unique<Storing>(
      service_, std::move(chunk), *header, deadline,
      [this, holder, id, bytes, done = std::move(done)](const Status& how) {
        service_.metrics.stores.Set(--stores_);
        if (how.ok() || how.code() == Code::kExists) known_.held(id, bytes, now());
        end(*holder);
        done(how);
      });
  *holder = storing.get();
  operations_.add(std::move(storing));
}

Status S3TierImpl::check_read(const TierReadRequest& request) {
  const uint64_t bytes = request.segment_bytes;
  if (request.layers == 0 || request.layers > kMaxLayers || bytes == 0 || !request.into ||
      bytes > request.into.bytes().size() / request.layers) {
    return Status(Code::kInvalidArgument,
                  "s3: a read of " + number(request.layers) + " layers of " + number(bytes) +
                      " bytes into a slot of " +
                      number(request.into ? request.into.bytes().size() : 0) + ": expected 1 to " +
                      number(kMaxLayers) + " layers that fit");
  }
  if (is_going(request.origin) || presence(request.id) == Presence::kAbsent)
    return Status(Code::kNotFound, "s3: chunk " + request.id.key.to_hex() + " is not there");
  if (readings_.size() >= service_.config.max_reads) return too_many("read", readings_.size());
  return unavailable();
}

std::unique_ptr<Tier::Read> S3TierImpl::read(TierReadRequest request, OnLayer on_layer,
                                             OnRead done) {
  Status refused = check_read(request);
  auto reading = std::make_unique<Reading>(service_, *this, std::move(request), std::move(refused),
                                           std::move(on_layer), std::move(done));
  readings_.insert(reading.get());
  service_.metrics.reads.Set(static_cast<double>(readings_.size()));
  return reading;
}

void S3TierImpl::on_end(Reading& reading, const Status& how) {
  readings_.erase(&reading);
  service_.metrics.reads.Set(static_cast<double>(readings_.size()));
  const TierReadRequest& request = reading.request();
  if (how.ok()) known_.held(request.id, request.segment_bytes * request.layers, now());
  if (how.code() == Code::kNotFound) {
    service_.metrics.misses.Increment();
    // What is remembered is not remembered for longer because it was asked for again.
    if (presence(request.id) != Presence::kAbsent) known_.absent(request.id, now());
  }
  if (how.code() == Code::kChecksum) {
    log::error("s3: a chunk is bad and is erased chunk={} error=\"{}\"", request.id.key.to_hex(),
               how.message());
    drop(request.origin, {request.id}, [](const Status&) {});
  }
  maybe_closed();
}

void S3TierImpl::erase(ChunkOrigin origin, std::vector<ChunkId> ids, OnDone done) {
  Status status = ids.empty() ? ok_status() : unavailable();
  if (status.ok() &&
      ids.size() > service_.config.max_erases - std::min(erases_, service_.config.max_erases))
    status = too_many("erase", erases_);
  if (ids.empty() || !status.ok()) return later([done = std::move(done), status] { done(status); });
  drop(origin, std::move(ids), std::move(done));
}

// Also where the breaker is open: what is bad goes as soon as it can.
void S3TierImpl::drop(const ChunkOrigin& origin, std::vector<ChunkId> ids, OnDone done) {
  std::vector<std::string> names;
  for (const ChunkId& id : ids) {
    known_.absent(id, now());
    names.push_back(object_name(service_.config.prefix, origin, id));
  }
  const auto count = static_cast<uint32_t>(ids.size());
  erases_ += count;
  auto holder = std::make_shared<const Operation*>(nullptr);
  auto deleting = std::make_unique<Deleting>(
      service_, std::move(names), [this, holder, count, done = std::move(done)](const Status& how) {
        erases_ -= count;
        end(*holder);
        done(how);
      });
  *holder = deleting.get();
  operations_.add(std::move(deleting));
}

void S3TierImpl::clear(ChunkFilter filter, bool dry_run, OnCount done) {
  Status status = unavailable();
  if (status.ok() && sweeps_.size() >= service_.config.max_clears)
    status = too_many("clear", sweeps_.size());
  if (!status.ok()) return later([done = std::move(done), status] { done(status); });
  if (!dry_run) known_.forget_all();
  auto holder = std::make_shared<const Sweeping*>(nullptr);
  auto sweeping = std::make_unique<Sweeping>(
      service_, filter, dry_run,
      [this, holder, dry_run, done = std::move(done)](Result<ChunkCount> count) {
        // Whoever asked before an object went remembers it.
        if (!dry_run) known_.forget_all();
        sweeps_.remove(*holder);
        end(*holder);
        done(std::move(count));
      });
  *holder = sweeping.get();
  sweeps_.push_back(sweeping.get());
  operations_.add(std::move(sweeping));
}

TierReport S3TierImpl::report() const {
  return {.held = known_.count(),
          .capacity_bytes = 0,
          .stores = stores_,
          .reads = static_cast<uint32_t>(readings_.size()),
          .available = service_.available(),
          .trouble = service_.trouble()};
}

void S3TierImpl::close(TimePoint deadline, std::function<void()> closed) {
  closing_ = true;
  closed_ = std::move(closed);
  close_timer_.expires_at(deadline);
  close_timer_.async_wait(alive_.guard([this](const boost::system::error_code& error) {
    if (error) return;
    const Status why(Code::kUnavailable, "s3: the tier is closing");
    while (!readings_.empty()) (*readings_.begin())->give_up(why);
    operations_.give_up_all(why);
  }));
  maybe_closed();
}

void S3TierImpl::end(const Operation* operation) {
  operations_.remove(operation);
  maybe_closed();
}

void S3TierImpl::maybe_closed() {
  if (!closing_ || closed_ == nullptr || !readings_.empty() || !operations_.empty()) return;
  close_timer_.cancel();
  later([closed = std::exchange(closed_, nullptr)] { closed(); });
}

}  // namespace baton::s3
