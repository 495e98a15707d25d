#include "tests/transfer/protocol/explore.h"

#include <bit>
#include <sstream>

namespace baton::protocol {
namespace {

constexpr const char* kWhatNames[] = {"start",
                                      "sender's request is queued",
                                      "sender offers",
                                      "prefill computes",
                                      "sender takes",
                                      "sender gives back",
                                      "sender publishes",
                                      "channel no longer reads",
                                      "channel fails to publish",
                                      "sender's engine stops",
                                      "sender's engine fails",
                                      "sender hears",
                                      "sender's deadline",
                                      "sender's budget is over",
                                      "receiver's engine begins",
                                      "receiver's engine accepts",
                                      "receiver's engine refuses",
                                      "receiver's copy is done",
                                      "receiver's engine stops",
                                      "receiver is told that the sender failed",
                                      "receiver hears",
                                      "receiver's deadline",
                                      "receiver's progress deadline",
                                      "receiver's budget is over",
                                      "arrives",
                                      "arrives spoilt",
                                      "is lost",
                                      "is doubled",
                                      "is spoilt",
                                      "the connection breaks",
                                      "sender notices that",
                                      "receiver notices that",
                                      "they are connected again",
                                      "sender crashes",
                                      "receiver crashes",
                                      "sender restarts",
                                      "receiver restarts"};

size_t hash_of(const System& system) {
  const auto bytes = std::bit_cast<std::array<uint32_t, sizeof(System) / 4>>(system);
  uint64_t hash = 0;
  for (const uint32_t word : bytes) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

uint8_t MessageTable::number(const Message& message) {
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (messages_[i] == message) return static_cast<uint8_t>(i + 1);
  }
  BATON_CHECK(messages_.size() < 254, "more different messages than the model has room for");
  messages_.push_back(message);
  return static_cast<uint8_t>(messages_.size());
}

Explorer::Explorer(const Scenario& scenario, MessageTable& messages, MachineSteps& sender,
                   MachineSteps& receiver)
    : scenario_(scenario), messages_(messages), senders_(sender), receivers_(receiver) {
  static_assert(sizeof(System) % 4 == 0);
  if (scenario_.holder_has_chunks == 0) return;
  map_ = SegmentMap(scenario_.offered());
  BATON_CHECK(map_.segments() <= 8, "a set of segments has eight bits");
  const auto held =
      chunks_held(map_, std::min(scenario_.held_tokens, map_.tokens()), scenario_.held_chunks);
  for (uint8_t i = 0; i < map_.segments(); ++i) {
    add(all_, i);
    if (held[map_.id(i).chunk]) add(held_, i);
    segment_bytes_.push_back(map_.bytes(i));
  }
}

Exploration Explorer::run(size_t limit) {
  System start{.flags = kUp,
               .lose = scenario_.lose,
               .repeat = scenario_.repeat,
               .spoil = scenario_.spoil,
               .give_back = scenario_.give_back,
               .stop = scenario_.stop,
               .cut = scenario_.cut,
               .crash = scenario_.crash,
               .early = scenario_.early};
  table_.assign(1 << 16, 0);
  insert(start, 0, {});
  for (uint32_t i = 0; i < seen_.size() && broken_.empty(); ++i) {
    if (seen_.size() > limit) {
      result_.complete = false;
      break;
    }
    expand(i);
  }
  result_.broken = broken_;
  result_.systems = seen_.size();
  result_.senders = senders_.values();
  result_.receivers = receivers_.values();
  return std::move(result_);
}

bool Explorer::insert(const System& system, uint32_t parent, Event event) {
  if (seen_.size() * 2 > table_.size()) {
    std::vector<uint32_t> larger(table_.size() * 4, 0);
    for (uint32_t i = 0; i < seen_.size(); ++i) {
      size_t place = hash_of(seen_[i].system) & (larger.size() - 1);
      while (larger[place] != 0) place = (place + 1) & (larger.size() - 1);
      larger[place] = i + 1;
    }
    table_ = std::move(larger);
  }
  size_t place = hash_of(system) & (table_.size() - 1);
  for (; table_[place] != 0; place = (place + 1) & (table_.size() - 1)) {
    if (seen_[table_[place] - 1].system == system) return false;
  }
  seen_.push_back({system, parent, event});
  table_[place] = static_cast<uint32_t>(seen_.size());
  return true;
}

// --- what can happen

void Explorer::expand(uint32_t index) {
  current_index_ = index;
  current_ = seen_[index].system;
  progress_ = any_ = false;
  expand_sender();
  expand_receiver();
  expand_channel();
  expand_connection();
  expand_timers();
  if (progress_ || any_ || !broken_.empty()) return;
  next_ = current_;
  check_nothing_left();
  if (!broken_.empty()) result_.path = path_to(index);
  ++result_.ended;
  ++result_.ends[current_.sender_end][current_.receiver_end];
}

void Explorer::attempt(Kind kind, What what, uint8_t argument) {
  if (kind == kProgress) progress_ = true;
  if (kind == kTimer) any_ = true;
  if (!broken_.empty()) return;
  next_ = current_;
  happen(what, argument);
  check();
  const Event event{what, argument};
  if (!broken_.empty()) {
    result_.path = path_to(current_index_);
    result_.path.push_back(describe(current_, event));
    return;
  }
  insert(next_, current_index_, event);
}

void Explorer::expand_sender() {
  const System& s = current_;
  if ((s.flags & kSenderDown) != 0) return;
  if (s.sender == 0) {
    const bool can_be = (s.flags & kUp) != 0 && (s.flags & kSenderBuried) == 0;
    if (scenario_.flow == Flow::kPush && can_be) {
      attempt(kProgress, What::kQueued);
      attempt(kProgress, What::kOffer);
    }
  } else {
    const View& view = senders_.view(s.sender);
    if (view.live && view.state == static_cast<uint8_t>(SenderHandoff::State::kQueued)) {
      attempt(kProgress, What::kOffer);
    }
    const bool offered =
        view.live && view.state >= static_cast<uint8_t>(SenderHandoff::State::kOffered);
    if (offered && s.computed < map_.segments()) attempt(kProgress, What::kCompute, s.computed);
    if (view.can_take) attempt(kProgress, What::kTake);
    for (uint8_t i = 0; i < map_.segments(); ++i) {
      if (in(s.gathering, i)) {
        // After the end what was gathered is not published any more: publish_done() alone.
        if (view.live) attempt(kProgress, What::kPublish, i);
        if (in(s.reading, i) && s.give_back > 0) attempt(kFault, What::kGiveBack, i);
        if (in(s.reading, i) && view.live && s.stop > 0) attempt(kFault, What::kPublishFails, i);
      }
      const bool packed_first = scenario_.publish == Scenario::Publish::kEither;
      if (in(s.reading, i) && (!in(s.gathering, i) || !view.live || packed_first)) {
        attempt(kProgress, What::kPublishDone, i);
      }
    }
    if (s.stop > 0 && view.live) {
      attempt(kFault, What::kSenderStops);
      attempt(kFault, What::kSenderFails);
    }
  }
  if (s.to_sender[0] != 0) attempt(kProgress, What::kSenderHears);
}

void Explorer::expand_receiver() {
  const System& s = current_;
  if ((s.flags & kReceiverDown) != 0) return;
  const bool claimed = s.receiver != 0 && receivers_.view(s.receiver).claimed;
  if (!claimed && (s.flags & kReceiverBuried) == 0 &&
      (s.receiver == 0 ? (s.flags & kUp) != 0 : receivers_.view(s.receiver).live)) {
    attempt(kProgress, What::kBegin);
  }
  if (s.receiver != 0) {
    const View& view = receivers_.view(s.receiver);
    if (view.undecided) attempt(kProgress, What::kAccept);
    if (view.undecided && s.stop > 0) attempt(kFault, What::kRefuse);
    for (uint8_t i = 0; i < map_.segments(); ++i) {
      if (in(s.copying_right | s.copying_wrong, i)) attempt(kProgress, What::kCopied, i);
    }
    if (s.stop > 0 && view.live) {
      attempt(kFault, What::kReceiverStops);
      attempt(kFault, What::kReceiverIsTold);
    }
  }
  if (s.to_receiver[0] != 0) attempt(kProgress, What::kReceiverHears);
}

void Explorer::expand_channel() {
  const System& s = current_;
  for (uint8_t i = 0; i < map_.segments(); ++i) {
    if (in(s.right_on_channel[0], i)) {
      attempt(kProgress, What::kArriveRight, i);
      if (s.lose > 0) attempt(kFault, What::kLose, i);
      if (s.repeat > 0) attempt(kFault, What::kRepeat, i);
      if (s.spoil > 0) attempt(kFault, What::kSpoil, i);
    }
    if (in(s.wrong_on_channel[0], i)) attempt(kProgress, What::kArriveWrong, i);
  }
}

void Explorer::expand_connection() {
  const System& s = current_;
  const auto has = [&s](uint16_t f) { return (s.flags & f) != 0; };
  if (has(kUp)) {
    if (s.cut > 0) attempt(kFault, What::kCut);
  } else {
    if (!has(kSenderKnows)) attempt(kProgress, What::kSenderNotices);
    if (!has(kReceiverKnows)) attempt(kProgress, What::kReceiverNotices);
    const bool both_know = has(kSenderKnows) && has(kReceiverKnows);
    if (both_know && has(kSenderDown)) attempt(kProgress, What::kSenderRestarts);
    if (both_know && has(kReceiverDown)) attempt(kProgress, What::kReceiverRestarts);
    if (both_know && !has(kSenderDown) && !has(kReceiverDown)) attempt(kProgress, What::kConnect);
  }
  if (s.crash > 0) {
    if (!has(kSenderDown)) attempt(kFault, What::kSenderCrashes);
    if (!has(kReceiverDown)) attempt(kFault, What::kReceiverCrashes);
  }
}

// Where nothing else can happen time goes on to the next deadline of either side. Elsewhere any
// deadline may fire, as often as the scenario allows.
void Explorer::expand_timers() {
  const System& s = current_;
  std::optional<Duration> sender, receiver;
  if (s.sender != 0) sender = senders_.view(s.sender).deadline;
  if (s.receiver != 0) receiver = receivers_.view(s.receiver).deadline;
  if (quiescent()) {
    if (sender && (!receiver || *sender <= *receiver)) attempt(kTimer, What::kSenderNext);
    if (receiver && (!sender || *receiver <= *sender)) attempt(kTimer, What::kReceiverNext);
  }
  if (s.early == 0) return;
  if (sender) {
    attempt(kFault, What::kSenderNext, 1);
    attempt(kFault, What::kSenderBudget, 1);
  }
  if (receiver) {
    attempt(kFault, What::kReceiverNext, 1);
    attempt(kFault, What::kReceiverProgress, 1);
    attempt(kFault, What::kReceiverBudget, 1);
  }
}

uint64_t Explorer::bytes_of(uint8_t mask) const {
  uint64_t bytes = 0;
  for (uint8_t i = 0; i < map_.segments(); ++i) {
    if (in(mask, i)) bytes += segment_bytes_[i];
  }
  return bytes;
}

// --- what is printed

std::string Explorer::describe(const System& before, Event event) const {
  std::string text = kWhatNames[static_cast<size_t>(event.what)];
  const auto heard = event.what == What::kSenderHears     ? before.to_sender[0]
                     : event.what == What::kReceiverHears ? before.to_receiver[0]
                                                          : 0;
  if (heard != 0) return text + " " + message_name(messages_.at(heard));
  const bool on_channel = event.what >= What::kArriveRight && event.what <= What::kSpoil;
  if (on_channel) return "segment " + std::to_string(event.argument) + " " + text;
  const bool of_segment = event.what == What::kGiveBack || event.what == What::kPublish ||
                          event.what == What::kPublishDone || event.what == What::kPublishFails ||
                          event.what == What::kCopied;
  if (of_segment) text += " segment " + std::to_string(event.argument);
  if (event.what == What::kTake) text += " a segment";
  return text;
}

std::vector<std::string> Explorer::path_to(uint32_t index) const {
  std::vector<std::string> path;
  for (; index != 0; index = seen_[index].parent) {
    path.push_back(describe(seen_[seen_[index].parent].system, seen_[index].event));
  }
  std::reverse(path.begin(), path.end());
  return path;
}

std::string Exploration::to_string() const {
  std::ostringstream text;
  text << systems << " systems of " << senders << " senders and " << receivers << " receivers, "
       << ended << " ends";
  if (!complete) text << ", not complete";
  if (broken.empty()) return text.str();
  text << "\n" << broken << ":\n";
  for (size_t i = 0; i < path.size(); ++i) text << "  " << i + 1 << ". " << path[i] << "\n";
  return text.str();
}

}  // namespace baton::protocol
