#include "perf/receiver.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>

#include "perf/landings.h"
#include "perf/reference_ring.h"
#include "perf/reference_stream.h"
#include "perf/reference_ucx.h"

namespace baton::bench {
namespace {

constexpr Duration kReceiverPatience = std::chrono::seconds(120);

int64_t nanoseconds(TimePoint at) { return at.time_since_epoch().count(); }

class Receiver {
 public:
  explicit Receiver(UniqueFd wire) : wire_(std::move(wire)) {}

  // Each answer goes out before the next request is read.
  Status serve() {
    for (;;) {
      Result<Json> request = wire_.receive(kReceiverPatience * 10);
      if (!request.ok()) {
        return request.status().code() == Code::kUnavailable ? ok_status() : request.status();
      }
      Result<Json> answer = answer_to(*request);
      BATON_RETURN_IF_ERROR(wire_.send(answer.ok() ? *answer : error_answer(answer.status())));
    }
  }

 private:
  using Handler = Result<Json> (Receiver::*)(const Json&);

  Result<Json> answer_to(const Json& request) {
    static const std::map<std::string, Handler> handlers{
        {"clock", &Receiver::clock},         {"open", &Receiver::open},
        {"expect", &Receiver::expect},       {"wait", &Receiver::wait},
        {"timeline", &Receiver::timeline},   {"stream_open", &Receiver::stream_open},
        {"stream", &Receiver::stream},       {"pong", &Receiver::pong},
        {"ring_open", &Receiver::ring_open}, {"ring", &Receiver::ring},
        {"ucx_open", &Receiver::ucx_open},   {"ucx", &Receiver::ucx}};
    const auto found = handlers.find(request.value("do", std::string()));
    if (found == handlers.end())
      return Status(Code::kProtocol,
                    "this process does not know how to do that: " + request.dump());
    try {
      return (this->*found->second)(request);
    } catch (const Json::exception& error) {
      return Status(Code::kProtocol, error.what());
    }
  }

  Result<Json> clock(const Json&) { return Json{{"at", nanoseconds(now())}}; }

  Result<Json> open(const Json& request) {
    landings_.reset();
    side_.reset();
    BATON_ASSIGN_OR_RETURN(const Spec spec, Spec::from_json(request.at("spec")));
    BATON_ASSIGN_OR_RETURN(side_, Side::create(spec, false));
    landings_ = std::make_unique<Landings>(*side_);
    return Json{{"node", side_->node().address().to_string()}};
  }

  Result<Json> expect(const Json& request) {
    if (!landings_) return not_open();
    BATON_ASSIGN_OR_RETURN(const Batch batch, Batch::from_json(request.at("batch")));
    BATON_RETURN_IF_ERROR(landings_->expect(batch));
    return Json{{"cpu", cpu_seconds()}, {"stages", side_->stage_seconds()}};
  }

  Result<Json> wait(const Json& request) {
    if (!landings_) return not_open();
    Json loaded = Json::array();
    const uint64_t id = request.at("id").get<uint64_t>();
    BATON_RETURN_IF_ERROR(landings_->wait(id, kReceiverPatience));
    const double cpu = cpu_seconds();
    BATON_ASSIGN_OR_RETURN(const auto at, landings_->compare(id));
    for (const TimePoint t : at) loaded.push_back(nanoseconds(t));
    return Json{{"loaded_at", loaded}, {"cpu", cpu}, {"stages", side_->stage_seconds()}};
  }

  Result<Json> timeline(const Json& request) {
    if (!side_ || side_->timeline() == nullptr) return not_open();
    const auto first = request.at("from").get<size_t>();
    Json events = Json::array();
    const auto all = side_->timeline()->events();
    for (size_t i = first; i < all.size(); ++i)
      events.push_back({static_cast<int>(all[i].stage), all[i].chunk, all[i].layer, all[i].bytes,
                        nanoseconds(all[i].begin), nanoseconds(all[i].end)});
    return Json{{"events", events}};
  }

  Result<Json> stream_open(const Json& request) {
    BATON_ASSIGN_OR_RETURN(auto listener, listen_at({request.at("host").get<std::string>(), 0}));
    // The answer must be out before the first process can dial.
    BATON_RETURN_IF_ERROR(wire_.send({{"port", listener.second.port}}));
    BATON_ASSIGN_OR_RETURN(stream_, accept_from(listener.first.get(), std::chrono::seconds(10)));
    tune_stream(stream_.get());
    return Json::object();
  }

  // Into the leading bytes of the KV memory: as cold as what a handoff writes.
  Result<Json> stream(const Json& request) {
    if (!side_ || !stream_.valid()) return not_open();
    const auto bytes = request.at("bytes").get<size_t>();
    const std::span<std::byte> into = side_->pool().bytes();
    const auto repeated = request.at("repeated").get<size_t>();
    if (bytes > into.size()) return Status(Code::kInvalidArgument, "more than the KV memory");
    side_->pool().poison();
    BATON_RETURN_IF_ERROR(wire_.send(Json::object()));
    BATON_RETURN_IF_ERROR(stream_in(stream_.get(), into.first(bytes)));
    const TimePoint at = now();
    if (repeated != 0)
      BATON_RETURN_IF_ERROR(compare_repeated(into.first(bytes), repeated));
    else if (bytes == into.size())
      BATON_RETURN_IF_ERROR(compare(0, 0));
    return Json{{"at", nanoseconds(at)}};
  }

  Result<Json> pong(const Json& request) {
    if (!stream_.valid()) return not_open();
    BATON_RETURN_IF_ERROR(wire_.send(Json::object()));
    BATON_RETURN_IF_ERROR(bench::pong(stream_.get(), request.at("times").get<uint32_t>()));
    return Json::object();
  }

  Result<Json> ucx_open(const Json& request) {
    std::unique_ptr<UcxStream>& ucx = ucx_[request.at("peer").get<bool>()];
    BATON_ASSIGN_OR_RETURN(ucx, UcxStream::create());
    return Json{{"address", ucx->address()}};
  }

  Result<Json> ucx(const Json& request) {
    const auto found = ucx_.find(request.at("peer").get<bool>());
    if (!side_ || found == ucx_.end()) return not_open();
    side_->pool().poison();
    BATON_RETURN_IF_ERROR(wire_.send(Json::object()));
    BATON_ASSIGN_OR_RETURN(const TimePoint at, found->second->receive_all(side_->pool().bytes()));
    BATON_RETURN_IF_ERROR(compare(0, 0));
    return Json{{"at", nanoseconds(at)}};
  }

  Result<Json> ring_open(const Json& request) {
    BATON_ASSIGN_OR_RETURN(ring_, Ring::open(request.at("path").get<std::string>(),
                                             request.at("slot_bytes").get<size_t>()));
    return Json::object();
  }

  Result<Json> ring(const Json& request) {
    if (!side_ || !ring_) return not_open();
    KvPool& pool = side_->pool();
    pool.poison();
    const auto seed = request.at("seed").get<uint64_t>();
    const std::vector<uint32_t> blocks = shuffled_blocks(pool.blocks(), seed * 2 + 1);
    BATON_RETURN_IF_ERROR(wire_.send(Json::object()));
    BATON_RETURN_IF_ERROR(
        ring_->scatter_all(pool, blocks, request.at("slot_blocks").get<uint32_t>()));
    const TimePoint at = now();
    BATON_RETURN_IF_ERROR(compare(seed * 2, seed * 2 + 1));
    return Json{{"at", nanoseconds(at)}};
  }

  // Of whole pools; order 0: as it lies.
  Status compare(uint64_t from, uint64_t to) {
    KvPool& pool = side_->pool();
    std::vector<uint32_t> sent(pool.blocks()), here(pool.blocks());
    for (uint32_t b = 0; b < pool.blocks(); ++b) sent[b] = here[b] = b;
    if (from != to) {
      sent = shuffled_blocks(pool.blocks(), from);
      here = shuffled_blocks(pool.blocks(), to);
    }
    if (pool.wrong_words(sent, here) == 0) return ok_status();
    return wrong_reference();
  }

  // Of the leading bytes of the KV memory: whether they are its first `piece` again and again.
  Status compare_repeated(std::span<const std::byte> came, size_t piece) {
    for (size_t at = 0; at < came.size(); at += piece)
      if (std::memcmp(came.data(), came.data() + at, std::min(piece, came.size() - at)) != 0)
        return wrong_reference();
    const std::span<const std::byte> leading = came.first(std::min(piece, came.size()));
    const std::vector<std::byte> first(leading.begin(), leading.end());
    side_->pool().fill();
    return std::memcmp(first.data(), came.data(), first.size()) == 0 ? ok_status()
                                                                     : wrong_reference();
  }

  static Status wrong_reference() {
    return Status(Code::kChecksum, "the reference's bytes are not what was sent");
  }

  static Status not_open() { return Status(Code::kProtocol, "nothing is open to measure with"); }

  Wire wire_;
  UniqueFd stream_;
  std::unique_ptr<Ring> ring_;
  std::map<bool, std::unique_ptr<UcxStream>> ucx_;  // by whether in PEER error mode
  std::unique_ptr<Side> side_;
  std::unique_ptr<Landings> landings_;  // before the node that its sessions belong to
};

}  // namespace

Status serve_driver(UniqueFd wire) { return Receiver(std::move(wire)).serve(); }

Status serve_at(const HostPort& address, bool insecure) {
  if (!insecure && !address.is_loopback())
    return Status(Code::kInvalidArgument,
                  "the address is " + address.to_string() +
                      ": expected loopback, or --insecure: who connects is not asked who they are");
  BATON_ASSIGN_OR_RETURN(auto listener, listen_at(address));
  std::fprintf(stderr, "baton-bench: serving at %s\n", listener.second.to_string().c_str());
  for (;;) {
    Result<UniqueFd> wire = accept_from(listener.first.get(), std::chrono::hours(24));
    if (!wire.ok() && wire.status().code() != Code::kDeadlineExceeded) return wire.status();
    if (!wire.ok()) continue;
    const Status status = serve_driver(std::move(*wire));
    std::fprintf(stderr, "baton-bench: %s\n",
                 status.ok() ? "measured; waiting for the next" : status.to_string().c_str());
  }
}

}  // namespace baton::bench
