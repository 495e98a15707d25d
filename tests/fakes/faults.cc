#include "tests/fakes/faults.h"

#include <sys/stat.h>

#include <csignal>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "transfer/base/log.h"
#include "transfer/channel.h"

namespace baton::fakes {
namespace {

// What stops at the n-th operation of a kind; shared by the decorators of one process.
class Stopper {
 public:
  explicit Stopper(const FaultPlan& plan) : what_(plan.stop), left_(plan.at) {}
  // Whether this operation is the one.
  bool now(const char* what) { return what_ == what && left_ != 0 && --left_ == 0; }
  static void stop(const char* what) {
    log::warn("fault injected kind=stop inside={}", what);
    std::raise(SIGSTOP);
  }

 private:
  const std::string what_;
  uint32_t left_;
};

// Which checksum the sender claimed for the bytes that are shown next, for a node that believes it.
struct Claimed {
  const std::byte* bytes = nullptr;
  Checksum checksum;
};

// The chances of a plan, or of the file that it names.
class Chances {
 public:
  explicit Chances(const FaultPlan& plan) : plan_(plan) {}

  const FaultPlan& now() {
    if (plan_.file.empty()) return plan_;
    struct stat found {};
    if (::stat(plan_.file.c_str(), &found) != 0) found = {};
    const Version version{found.st_ino, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
    if (version == read_) return from_file_;
    read_ = version;
    std::ifstream in(plan_.file);
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    auto parsed = parse_faults(text);
    if (!parsed.ok()) log::error("{}: {}", plan_.file, parsed.status().message());
    from_file_ = parsed.ok() ? *parsed : FaultPlan{};
    return from_file_;
  }

 private:
  using Version = std::tuple<ino_t, time_t, long>;
  const FaultPlan plan_;
  FaultPlan from_file_;
  Version read_{};
};

class FaultyEvents final : public ChannelEvents {
 public:
  FaultyEvents(ChannelEvents& inner, const FaultPlan& plan, std::shared_ptr<Claimed> claimed)
      : inner_(inner), chances_(plan), claimed_(std::move(claimed)), random_(plan.seed) {}

  void on_segment(const SegmentHeader& header, ReceivedBytes payload) override {
    ++arrived_;
    const FaultPlan& plan = chances_.now();
    if (draw(plan, plan.lose, "lose")) return deliver_due();
    if (draw(plan, plan.flip, "flip")) return inject_flip(header, payload);
    if (draw(plan, plan.foreign, "foreign")) {
      SegmentHeader other = header;
      other.segment = header.segment == 0 ? 1 : header.segment - 1;
      deliver(other, std::move(payload));
      return deliver_due();
    }
    if (draw(plan, plan.twice, "double")) {
      deliver(header, copy_of(payload));
      deliver(header, std::move(payload));
      return deliver_due();
    }
    if (draw(plan, plan.reorder, "reorder")) return hold(header, std::move(payload), 1);
    if (draw(plan, plan.late, "late")) return hold(header, std::move(payload), 8);
    deliver(header, std::move(payload));
    deliver_due();
  }
  void on_staging() override { inner_.on_staging(); }
  void on_channel_closed(const Status& why) override {
    held_.clear();
    inner_.on_channel_closed(why);
  }

 private:
  struct Held {
    SegmentHeader header;
    ReceivedBytes payload;
  };

  void deliver(const SegmentHeader& header, ReceivedBytes payload) {
    *claimed_ = {payload.bytes().data(), header.checksum};
    inner_.on_segment(header, std::move(payload));
  }
  bool draw(const FaultPlan& plan, uint32_t chance, const char* kind) {
    if (chance == 0 || injected_ >= plan.limit || random_() % 1000 >= chance) return false;
    ++injected_;
    log::warn("fault injected kind={}", kind);
    return true;
  }
  static ReceivedBytes copy_of(const ReceivedBytes& payload) {
    auto copy =
        std::make_shared<std::vector<std::byte>>(payload.bytes().begin(), payload.bytes().end());
    const std::span<const std::byte> bytes(*copy);
    return {bytes, [copy] {}};
  }
  void inject_flip(const SegmentHeader& header, const ReceivedBytes& payload) {
    auto copy =
        std::make_shared<std::vector<std::byte>>(payload.bytes().begin(), payload.bytes().end());
    (*copy)[random_() % copy->size()] ^= std::byte{1} << (random_() % 8);
    const std::span<const std::byte> bytes(*copy);
    deliver(header, {bytes, [copy] {}});
    deliver_due();
  }
  void hold(const SegmentHeader& header, ReceivedBytes payload, uint64_t others) {
    held_.emplace(arrived_ + others, Held{header, std::move(payload)});
    deliver_due();
  }
  void deliver_due() {
    while (!held_.empty() && held_.begin()->first < arrived_) {
      Held due = std::move(held_.begin()->second);
      held_.erase(held_.begin());
      deliver(due.header, std::move(due.payload));
    }
  }

  ChannelEvents& inner_;
  Chances chances_;
  const std::shared_ptr<Claimed> claimed_;
  std::mt19937_64 random_;
  uint32_t injected_ = 0;
  uint64_t arrived_ = 0;
  std::multimap<uint64_t, Held> held_;  // by the arrival after which it is due
};

// Stops inside a publish: the slot is filled, the peer has not been told.
class StoppingChannel final : public Channel {
 public:
  StoppingChannel(std::unique_ptr<Channel> inner, std::shared_ptr<Stopper> stopper)
      : inner_(std::move(inner)), stopper_(std::move(stopper)) {}
  std::string_view transport() const override { return inner_->transport(); }
  Result<std::optional<Staging>> acquire(size_t bytes) override { return inner_->acquire(bytes); }
  Status publish(const SegmentHeader& header, Staging staging, PublishDone done) override {
    if (stopper_->now("publish")) Stopper::stop("publish");
    return inner_->publish(header, std::move(staging), std::move(done));
  }
  Status publish(const SegmentHeader& header, SlotRef slot, size_t offset,
                 PublishDone done) override {
    if (stopper_->now("publish")) Stopper::stop("publish");
    return inner_->publish(header, std::move(slot), offset, std::move(done));
  }
  void forget(const HandoffAttempt& handoff) override { inner_->forget(handoff); }
  void close(Status why) override { inner_->close(std::move(why)); }

 private:
  const std::unique_ptr<Channel> inner_;
  const std::shared_ptr<Stopper> stopper_;
};

// Stops inside a gather or a scatter: the first block is copied, the rest is not.
class StoppingCopier final : public Copier {
 public:
  StoppingCopier(std::unique_ptr<Copier> inner, std::shared_ptr<Stopper> stopper)
      : inner_(std::move(inner)), stopper_(std::move(stopper)) {}

  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    if (stopper_->now("gather")) {
      KvSegment first = from;
      first.tokens = std::min(from.tokens, from.layout.block_tokens);
      inner_->gather(first, order, seed, payload, [](Checksum) {});
      Stopper::stop("gather");
    }
    inner_->gather(from, order, seed, payload, std::move(done));
  }
  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t first_token, Done done) override {
    if (stopper_->now("scatter")) {
      KvSegment first = to;
      first.tokens = std::min(to.tokens, to.layout.block_tokens);
      inner_->scatter(first, order, seed, payload, std::min(first_token, first.tokens),
                      [](Checksum) {});
      Stopper::stop("scatter");
    }
    inner_->scatter(to, order, seed, payload, first_token, std::move(done));
  }

 private:
  const std::unique_ptr<Copier> inner_;
  const std::shared_ptr<Stopper> stopper_;
};

// Verifies nothing: says that the bytes had the checksum which the sender claimed.
class BelievingCopier final : public Copier {
 public:
  BelievingCopier(std::unique_ptr<Copier> inner, std::shared_ptr<Claimed> claimed)
      : inner_(std::move(inner)), claimed_(std::move(claimed)) {}

  void gather(const KvSegment& from, PayloadOrder order, const ChecksumSeed& seed,
              std::byte* payload, Done done) override {
    inner_->gather(from, order, seed, payload, std::move(done));
  }
  void scatter(const KvSegment& to, PayloadOrder order, const ChecksumSeed& seed,
               const std::byte* payload, uint32_t first_token, Done done) override {
    // Not a received segment: something from the host tier.
    if (payload != claimed_->bytes)
      return inner_->scatter(to, order, seed, payload, first_token, std::move(done));
    inner_->scatter(
        to, order, seed, payload, first_token,
        [done = std::move(done), claim = claimed_->checksum](Checksum) { done(claim); });
  }

 private:
  const std::unique_ptr<Copier> inner_;
  const std::shared_ptr<Claimed> claimed_;
};

}  // namespace

Result<FaultPlan> parse_faults(const std::string& text) {
  FaultPlan plan;
  const std::map<std::string, uint32_t*> numbers = {
      {"flip", &plan.flip},       {"lose", &plan.lose}, {"double", &plan.twice},
      {"reorder", &plan.reorder}, {"late", &plan.late}, {"foreign", &plan.foreign},
      {"limit", &plan.limit},     {"at", &plan.at}};
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    const size_t equals = item.find('=');
    const std::string key = item.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : item.substr(equals + 1);
    begin = end + 1;
    if (item == "unverified") {
      plan.unverified = true;
    } else if (key == "file" && !value.empty()) {
      plan.file = value;
    } else if (key == "stop" && (value == "gather" || value == "publish" || value == "scatter")) {
      plan.stop = value;
    } else if (key == "seed" && !value.empty()) {
      plan.seed = std::stoull(value);
    } else if (const auto it = numbers.find(key); it != numbers.end() && !value.empty()) {
      *it->second = static_cast<uint32_t>(std::stoul(value));
    } else {
      return Status(Code::kInvalidArgument, "fault is '" + item + "': see tests/fakes/faults.h");
    }
  }
  if (plan.unverified && !plan.stop.empty())
    return Status(Code::kInvalidArgument, "fault: unverified and stop do not go together");
  return plan;
}

void install_faults(const FaultPlan& plan, NodeSeams& seams) {
  const auto claimed = std::make_shared<Claimed>();
  seams.channel_events = [plan, claimed](ChannelEvents& inner) {
    return std::make_unique<FaultyEvents>(inner, plan, claimed);
  };
  if (plan.unverified) {
    seams.copier = [claimed](std::unique_ptr<Copier> inner) {
      return std::make_unique<BelievingCopier>(std::move(inner), claimed);
    };
  }
  if (plan.stop.empty()) return;
  const auto stopper = std::make_shared<Stopper>(plan);
  seams.copier = [stopper](std::unique_ptr<Copier> inner) {
    return std::make_unique<StoppingCopier>(std::move(inner), stopper);
  };
  seams.channel = [stopper](std::unique_ptr<Channel> inner) {
    return std::make_unique<StoppingChannel>(std::move(inner), stopper);
  };
}

}  // namespace baton::fakes
