#include "perf/pair.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "perf/reference_stream.h"

namespace baton::bench {
namespace {

constexpr Duration kPatience = std::chrono::seconds(120);
constexpr int kClockTrips = 50;

}  // namespace

std::string Usage::blame() const {
  const std::pair<double, const char*> stages[] = {
      {gather, "gather"}, {verify_scatter, "verify_scatter"}, {offer, "offer"}};
  const auto& most = *std::max_element(std::begin(stages), std::end(stages));
  return most.first > seconds / 2 ? most.second : "send";
}

void Usage::describe(Json& also) const {
  also["gather_share"] = rounded(gather / seconds);
  also["verify_scatter_share"] = rounded(verify_scatter / seconds);
  also["offer_share"] = rounded(offer / seconds);
  also["sender_cpu"] = rounded(sender_cpu / seconds);
  also["receiver_cpu"] = rounded(receiver_cpu / seconds);
}

// --- the other process

Status Pair::start_process() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return Status::from_errno("socketpair", errno);
  wire_ = std::make_unique<Wire>(UniqueFd(ends[0]));
  const UniqueFd theirs(ends[1]);
  const std::string number = std::to_string(theirs.get());
  const char* const arguments[] = {"baton-bench", "receive", "--fd", number.c_str(), nullptr};
  child_ = ::fork();
  if (child_ < 0) return Status::from_errno("fork", errno);
  if (child_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::fcntl(theirs.get(), F_SETFD, 0);
    ::execv("/proc/self/exe", const_cast<char* const*>(arguments));
    ::_exit(127);
  }
  return ok_status();
}

Result<std::unique_ptr<Pair>> Pair::create(Spec spec, const std::optional<HostPort>& connect) {
  std::unique_ptr<Pair> pair(new Pair);
  if (connect) {
    BATON_ASSIGN_OR_RETURN(UniqueFd fd, dial(*connect, std::chrono::seconds(5)));
    pair->wire_ = std::make_unique<Wire>(std::move(fd));
    pair->other_host_ = connect->host;
  } else {
    BATON_RETURN_IF_ERROR(pair->start_process());
  }
  // The quickest of many round trips says best how the other clock stands.
  Duration best = kPatience;
  for (int i = 0; connect && i < kClockTrips; ++i) {
    const TimePoint began = now();
    BATON_ASSIGN_OR_RETURN(const Json answer, pair->wire_->call({{"do", "clock"}}, kPatience));
    const Duration took = now() - began;
    if (took >= best) continue;
    best = took;
    pair->offset_ns_ =
        answer.at("at").get<int64_t>() - (began + took / 2).time_since_epoch().count();
  }
  Spec theirs = spec;
  theirs.host = pair->other_host_;
  BATON_ASSIGN_OR_RETURN(
      const Json opened,
      pair->wire_->call({{"do", "open"}, {"spec", theirs.to_json()}}, kPatience));
  BATON_ASSIGN_OR_RETURN(pair->other_node_, HostPort::parse(opened.at("node").get<std::string>()));
  BATON_ASSIGN_OR_RETURN(pair->side_, Side::create(spec, true));
  return pair;
}

// The other process ends when its wire does.
Pair::~Pair() {
  wire_.reset();
  if (child_ <= 0) return;
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child_, 0)));
  if (!wait_readable(process.get(), now() + std::chrono::seconds(5)).ok()) ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
}

double Pair::since(TimePoint began, int64_t other_clock) const {
  return static_cast<double>(other_clock - offset_ns_ - began.time_since_epoch().count()) * 1e-9;
}

// --- handoffs

Result<Pair::Landed> Pair::hand_off(uint32_t count, uint32_t blocks, uint32_t first,
                                    const Compute& compute) {
  reshuffle();
  BATON_ASSIGN_OR_RETURN(auto flight, begin(count, blocks, first, compute));
  return finish(std::move(flight));
}

Result<std::unique_ptr<Flight>> Pair::begin(uint32_t count, uint32_t blocks, uint32_t first,
                                            const Compute& compute) {
  const Batch batch{
      .id = ++batches_, .count = count, .blocks = blocks, .first = first, .seed = seeds_};
  auto flight = std::make_unique<Flight>(batch);
  BATON_ASSIGN_OR_RETURN(const Json expected,
                         wire_->call({{"do", "expect"}, {"batch", batch.to_json()}}, kPatience));
  flight->other_cpu = expected.at("cpu").get<double>();
  flight->other_stages = expected.at("stages");
  const uint32_t tokens = blocks * spec().block_tokens;
  const std::vector<uint32_t>& order = order_.get(side_->pool().blocks(), batch.seed * 2);
  for (uint32_t i = 0; i < count; ++i) {
    BATON_ASSIGN_OR_RETURN(auto session, PrefillSession::create(side_->node(),
                                                                {.handoff = batch.handoff(i),
                                                                 .peer = {other_node_},
                                                                 .budget = kPatience,
                                                                 .tokens = prompt_tokens(tokens),
                                                                 .salt = batch.salt(i)},
                                                                flight->on_released()));
    flight->sessions.push_back(std::move(session));
  }
  flight->begun_at.resize(count);
  flight->stages = side_->stage_seconds();
  flight->cpu = cpu_seconds();
  for (uint32_t i = 0; i < count; ++i) {
    PrefillSession& session = *flight->sessions[i];
    const std::span<const uint32_t> table(order.data() + first + size_t{i} * blocks, blocks);
    flight->begun_at[i] = now();
    session.begin(table, compute ? 0 : tokens);
    if (compute) compute(session, tokens);
    session.finish();
  }
  return flight;
}

Result<Pair::Landed> Pair::finish(std::unique_ptr<Flight> flight) {
  const Status released = flight->wait_released(now() + kPatience);
  const double cpu = cpu_seconds();
  BATON_RETURN_IF_ERROR(released);
  BATON_ASSIGN_OR_RETURN(const Json answer,
                         wire_->call({{"do", "wait"}, {"id", flight->batch.id}}, kPatience));
  Landed landed;
  const auto loaded = answer.at("loaded_at").get<std::vector<int64_t>>();
  if (loaded.size() != flight->batch.count)
    return Status(Code::kProtocol, "the other process answered for another batch");
  for (size_t i = 0; i < loaded.size(); ++i) {
    landed.seconds = std::max(landed.seconds, since(flight->begun_at[0], loaded[i]));
    landed.each.push_back(since(flight->begun_at[i], loaded[i]));
  }
  const Json stages = side_->stage_seconds();
  const auto stage = [](const Json& after, const Json& before, const char* name) {
    return after.at(name).get<double>() - before.at(name).get<double>();
  };
  usage.seconds += landed.seconds;
  usage.gather += stage(stages, flight->stages, "gather");
  usage.verify_scatter += stage(answer.at("stages"), flight->other_stages, "verify_scatter");
  // Handoffs of a batch wait for their engine side by side; copies go one after the other.
  usage.offer += stage(answer.at("stages"), flight->other_stages, "offer") / flight->batch.count;
  usage.sender_cpu += cpu - flight->cpu;
  usage.receiver_cpu += answer.at("cpu").get<double>() - flight->other_cpu;
  return landed;
}

// --- references

Status Pair::open_stream() {
  if (stream_.valid()) return ok_status();
  BATON_ASSIGN_OR_RETURN(const Json listening,
                         wire_->call({{"do", "stream_open"}, {"host", other_host_}}, kPatience));
  BATON_ASSIGN_OR_RETURN(
      stream_, dial({other_host_, listening.at("port").get<uint16_t>()}, std::chrono::seconds(5)));
  tune_stream(stream_.get());
  BATON_ASSIGN_OR_RETURN(const Json accepted, wire_->receive(kPatience));
  return error_of(accepted);
}

Result<double> Pair::stream(size_t bytes, size_t repeated) {
  BATON_RETURN_IF_ERROR(open_stream());
  BATON_ASSIGN_OR_RETURN(
      const Json ready,
      wire_->call({{"do", "stream"}, {"bytes", bytes}, {"repeated", repeated}}, kPatience));
  const TimePoint began = now();
  for (size_t sent = 0, piece = repeated != 0 ? repeated : bytes; sent < bytes; sent += piece)
    BATON_RETURN_IF_ERROR(
        stream_out(stream_.get(), side_->pool().bytes().first(std::min(piece, bytes - sent))));
  BATON_ASSIGN_OR_RETURN(const Json answer, wire_->receive(kPatience));
  BATON_RETURN_IF_ERROR(error_of(answer));
  return since(began, answer.at("at").get<int64_t>());
}

Result<double> Pair::round_trip(uint32_t times) {
  BATON_RETURN_IF_ERROR(open_stream());
  BATON_ASSIGN_OR_RETURN(const Json ready,
                         wire_->call({{"do", "pong"}, {"times", times}}, kPatience));
  const TimePoint began = now();
  BATON_RETURN_IF_ERROR(ping(stream_.get(), times));
  const double seconds = to_seconds(now() - began);
  BATON_ASSIGN_OR_RETURN(const Json answer, wire_->receive(kPatience));
  BATON_RETURN_IF_ERROR(error_of(answer));
  return seconds / times;
}

Result<double> Pair::ring() {
  KvPool& pool = side_->pool();
  const auto slot_blocks =
      static_cast<uint32_t>(std::max<uint64_t>(1, spec().segment_bytes / spec().block_bytes));
  if (!ring_) {
    const size_t slot_bytes = slot_blocks * pool.block_bytes();
    BATON_ASSIGN_OR_RETURN(ring_, Ring::create(slot_bytes));
    BATON_ASSIGN_OR_RETURN(
        const Json opened,
        wire_->call({{"do", "ring_open"}, {"path", ring_->path()}, {"slot_bytes", slot_bytes}},
                    kPatience));
  }
  ring_->reset();
  const uint64_t seed = ++seeds_;
  const std::vector<uint32_t> blocks = shuffled_blocks(pool.blocks(), seed * 2);
  BATON_ASSIGN_OR_RETURN(
      const Json ready,
      wire_->call({{"do", "ring"}, {"seed", seed}, {"slot_blocks", slot_blocks}}, kPatience));
  const TimePoint began = now();
  BATON_RETURN_IF_ERROR(ring_->gather_all(pool, blocks, slot_blocks));
  BATON_ASSIGN_OR_RETURN(const Json answer, wire_->receive(kPatience));
  BATON_RETURN_IF_ERROR(error_of(answer));
  return since(began, answer.at("at").get<int64_t>());
}

Result<double> Pair::ucx(UcxErrors errors) {
  const bool peer = errors == UcxErrors::kPeer;
  std::unique_ptr<UcxStream>& ucx = ucx_[errors];
  if (!ucx) {
    BATON_ASSIGN_OR_RETURN(auto made, UcxStream::create());
    BATON_ASSIGN_OR_RETURN(const Json opened,
                           wire_->call({{"do", "ucx_open"}, {"peer", peer}}, kPatience));
    BATON_RETURN_IF_ERROR(made->connect(opened.at("address").get<std::string>(), errors));
    ucx = std::move(made);
  }
  BATON_ASSIGN_OR_RETURN(const Json ready, wire_->call({{"do", "ucx"}, {"peer", peer}}, kPatience));
  const TimePoint began = now();
  BATON_RETURN_IF_ERROR(ucx->send_all(side_->pool().bytes()));
  BATON_RETURN_IF_ERROR(ucx->work_until([this] { return wire_->readable(); }));
  BATON_ASSIGN_OR_RETURN(const Json answer, wire_->receive(kPatience));
  BATON_RETURN_IF_ERROR(error_of(answer));
  return since(began, answer.at("at").get<int64_t>());
}

Result<std::vector<TimelineEvent>> Pair::other_timeline() {
  BATON_ASSIGN_OR_RETURN(const Json answer,
                         wire_->call({{"do", "timeline"}, {"from", events_read_}}, kPatience));
  std::vector<TimelineEvent> events;
  for (const Json& e : answer.at("events"))
    events.push_back({.stage = static_cast<TimelineEvent::Stage>(e.at(0).get<int>()),
                      .chunk = e.at(1).get<uint32_t>(),
                      .layer = e.at(2).get<uint32_t>(),
                      .bytes = e.at(3).get<uint64_t>(),
                      .begin = TimePoint(Duration(e.at(4).get<int64_t>() - offset_ns_)),
                      .end = TimePoint(Duration(e.at(5).get<int64_t>() - offset_ns_))});
  events_read_ += events.size();
  return events;
}

}  // namespace baton::bench
