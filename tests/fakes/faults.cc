#include "tests/fakes/faults.h"

#include <sys/stat.h>

#include <csignal>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/gather.h"
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

// A file whose text says the chances of a plan.
class PlanFile {
 public:
  explicit PlanFile(std::string path) : path_(std::move(path)) {}

  // Reads it again if it is another than before.
  void follow(FaultPlan& plan) {
    if (path_.empty()) return;
    struct stat found {};
    if (::stat(path_.c_str(), &found) != 0) found = {};
    const Version version{found.st_ino, found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
    if (version == read_) return;
    read_ = version;
    std::ifstream in(path_);
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    auto parsed = parse_faults(text);
    if (!parsed.ok()) log::error("{}: {}", path_, parsed.status().message());
    plan = parsed.ok() ? *std::move(parsed) : FaultPlan{};
  }

 private:
  using Version = std::tuple<ino_t, time_t, long>;
  const std::string path_;
  Version read_{};
};

class FaultyEvents final : public ChannelEvents {
 public:
  FaultyEvents(ChannelEvents& inner, const FaultPlan& plan, std::shared_ptr<Stopper> stopper,
               std::shared_ptr<Claimed> claimed)
      : inner_(inner),
        plan_(plan),
        file_(plan.file),
        stopper_(std::move(stopper)),
        claimed_(std::move(claimed)),
        random_(plan.seed) {}

  void on_segment(const SegmentHeader& header, ReceivedBytes payload) override {
    file_.follow(plan_);
    ++arrived_;
    if (draw(plan_.lose, "lose")) return deliver_due();
    if (draw(plan_.flip, "flip")) return inject_flip(header, payload);
    if (draw(plan_.foreign, "foreign"))
      return misname(header, other_chunk(header), std::move(payload));
    if (draw(plan_.layer, "layer"))
      return misname(header, other_layer(header.segment), std::move(payload));
    if (draw(plan_.twice, "double")) {
      deliver(header, copy_of(payload));
      deliver(header, std::move(payload));
      return deliver_due();
    }
    if (draw(plan_.reorder, "reorder")) return hold(header, std::move(payload), 1);
    if (draw(plan_.late, "late")) return hold(header, std::move(payload), 8);
    deliver(header, std::move(payload));
    deliver_due();
  }
  // Received into place: what can be put in there is; for the other faults a segment is staged.
  std::variant<Otherwise, SegmentPlace> place(const SegmentHeader& header) override {
    file_.follow(plan_);
    if (plan_.twice + plan_.reorder + plan_.late + plan_.foreign + plan_.layer != 0)
      return Otherwise::kStage;
    if (draw(plan_.lose, "lose")) return Otherwise::kDrop;
    auto where = inner_.place(header);
    if (const auto* place = std::get_if<SegmentPlace>(&where))
      if (draw(plan_.flip, "flip")) flipped_[{header.handoff, header.segment}] = *place;
    return where;
  }
  void on_placed(const SegmentHeader& header, const Result<Checksum>& checksum) override {
    if (stopper_ && stopper_->now("scatter")) Stopper::stop("scatter");
    const auto flipped = flipped_.find({header.handoff, header.segment});
    if (flipped == flipped_.end() || !checksum.ok())
      return inner_.on_placed(header, believed(header, checksum));
    // One bit of the engine's own memory, and the checksum of what stands there now.
    const SegmentPlace place = flipped->second;
    flipped_.erase(flipped);
    const KvSegment& to = place.blocks;
    to.base[to.blocks[0] * to.layout.block_stride] ^= std::byte{1};
    std::vector<std::byte> bytes(header.bytes);
    inner_.on_placed(header, believed(header, gather(to, place.order, place.seed, bytes.data())));
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

  bool draw(uint32_t chance, const char* kind) {
    if (chance == 0 || injected_ == plan_.limit || random_() % 1000 >= chance) return false;
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
  // The segment's bytes, valid in themselves, under the number of another.
  void misname(SegmentHeader header, uint32_t segment, ReceivedBytes payload) {
    header.segment = segment;
    show(header, std::move(payload));
    deliver_due();
  }
  // The same layer of the chunk before or after (of the same length, but for the tail): of one that
  // has not come yet where there is such, for what has come is not looked at again.
  uint32_t other_chunk(const SegmentHeader& header) {
    const uint32_t segment = header.segment;
    if (segment < plan_.layers) return segment + plan_.layers;
    return delivered_.contains({header.handoff, segment - plan_.layers}) ? segment + plan_.layers
                                                                         : segment - plan_.layers;
  }
  uint32_t other_layer(uint32_t segment) const {
    return segment % plan_.layers == 0 ? segment + 1 : segment - 1;
  }
  void deliver(const SegmentHeader& header, ReceivedBytes payload) {
    if (plan_.foreign != 0) delivered_.insert({header.handoff, header.segment});
    show(header, std::move(payload));
  }
  void show(const SegmentHeader& header, ReceivedBytes payload) {
    if (claimed_) *claimed_ = {payload.bytes().data(), header.checksum};
    inner_.on_segment(header, std::move(payload));
  }
  Result<Checksum> believed(const SegmentHeader& header, Result<Checksum> checksum) const {
    if (claimed_ && checksum.ok()) return header.checksum;
    return checksum;
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
  FaultPlan plan_;
  PlanFile file_;
  const std::shared_ptr<Stopper> stopper_;  // may be null
  const std::shared_ptr<Claimed> claimed_;  // null where the node verifies
  std::mt19937_64 random_;
  uint32_t injected_ = 0;
  uint64_t arrived_ = 0;
  std::map<std::pair<HandoffAttempt, uint32_t>, SegmentPlace> flipped_;
  std::set<std::pair<HandoffAttempt, uint32_t>> delivered_;
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
  bool full() override { return inner_->full(); }
  bool full_for(const HandoffAttempt& handoff) override { return inner_->full_for(handoff); }
  bool sends_blocks() const override { return inner_->sends_blocks(); }
  Status send(const SegmentHeader& header, const SegmentPlace& place, PublishDone done) override {
    if (stopper_->now("publish")) Stopper::stop("publish");
    const bool stops = stopper_->now("gather");
    const Status status = inner_->send(header, place, std::move(done));
    if (stops) Stopper::stop("gather");  // the blocks are still to be read
    return status;
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
      inner_->gather(first, order, seed, payload, [](const Result<Checksum>&) {});
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
                      [](const Result<Checksum>&) {});
      Stopper::stop("scatter");
    }
    inner_->scatter(to, order, seed, payload, first_token, std::move(done));
  }
  uint32_t depth() const override { return inner_->depth(); }
  void finish() override { inner_->finish(); }

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
    // Not what was received: something from the host tier.
    if (payload != claimed_->bytes)
      return inner_->scatter(to, order, seed, payload, first_token, std::move(done));
    inner_->scatter(
        to, order, seed, payload, first_token,
        [done = std::move(done), claim = claimed_->checksum](const Result<Checksum>& checksum) {
          done(checksum.ok() ? Result<Checksum>(claim) : checksum);
        });
  }
  uint32_t depth() const override { return inner_->depth(); }
  void finish() override { inner_->finish(); }

 private:
  const std::unique_ptr<Copier> inner_;
  const std::shared_ptr<Claimed> claimed_;
};

}  // namespace

Result<FaultPlan> parse_faults(const std::string& text) {
  FaultPlan plan;
  const std::map<std::string, uint32_t*> numbers = {
      {"flip", &plan.flip},    {"lose", &plan.lose},
      {"double", &plan.twice}, {"reorder", &plan.reorder},
      {"late", &plan.late},    {"foreign", &plan.foreign},
      {"layer", &plan.layer},  {"layers", &plan.layers},
      {"limit", &plan.limit},  {"at", &plan.at}};
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
  if ((plan.foreign != 0 && plan.layers == 0) || (plan.layer != 0 && plan.layers < 2))
    return Status(Code::kInvalidArgument, "fault: 'foreign' and 'layer' need 'layers'");
  if (plan.unverified && !plan.stop.empty())
    return Status(Code::kInvalidArgument, "fault: 'unverified' and 'stop' do not go together");
  return plan;
}

void install_faults(const FaultPlan& plan, NodeSeams& seams) {
  const auto stopper = plan.stop.empty() ? nullptr : std::make_shared<Stopper>(plan);
  const auto claimed = plan.unverified ? std::make_shared<Claimed>() : nullptr;
  seams.channel_events = [plan, stopper, claimed](ChannelEvents& inner) {
    return std::make_unique<FaultyEvents>(inner, plan, stopper, claimed);
  };
  if (claimed) {
    seams.copier = [claimed](std::unique_ptr<Copier> inner) {
      return std::make_unique<BelievingCopier>(std::move(inner), claimed);
    };
  }
  if (!stopper) return;
  seams.copier = [stopper](std::unique_ptr<Copier> inner) {
    return std::make_unique<StoppingCopier>(std::move(inner), stopper);
  };
  seams.channel = [stopper](std::unique_ptr<Channel> inner) {
    return std::make_unique<StoppingChannel>(std::move(inner), stopper);
  };
}

}  // namespace baton::fakes
