#include "perf/timeline_file.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>

#include "perf/result.h"

namespace baton::bench {
namespace {

using Stage = TimelineEvent::Stage;
using SegmentKey = std::pair<uint32_t, uint32_t>;

constexpr int kSenderPid = 1, kReceiverPid = 2;

struct Row {
  const char* name;
  int pid;
  int tid;
};

Row row_of(Stage stage) {
  switch (stage) {
    case Stage::kCompute:
      return {"compute", kSenderPid, 1};
    case Stage::kGather:
      return {"gather", kSenderPid, 2};
    case Stage::kSend:
      return {"send", kSenderPid, 3};
    case Stage::kVerifyScatter:
      return {"verify_scatter", kReceiverPid, 1};
  }
  return {"unknown", kSenderPid, 9};
}

double microseconds(Duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

Json named(const char* what, int pid, int tid, const char* name) {
  return {{"ph", "M"}, {"name", what}, {"pid", pid}, {"tid", tid}, {"args", {{"name", name}}}};
}

}  // namespace

Status write_timeline_file(const std::string& file, std::span<const TimelineEvent> sender,
                           std::span<const TimelineEvent> receiver) {
  std::vector<TimelineEvent> events(sender.begin(), sender.end());
  events.insert(events.end(), receiver.begin(), receiver.end());
  if (events.empty()) return Status(Code::kInternal, "nothing was recorded for " + file);
  // A send is recorded as the moment at which the channel was asked; it lasts from when the bytes
  // were gathered until the receiver copies them.
  std::map<SegmentKey, TimePoint> gathered, copied;
  for (const TimelineEvent& e : events) {
    if (e.stage == Stage::kGather) gathered[{e.chunk, e.layer}] = e.end;
    if (e.stage == Stage::kVerifyScatter) copied[{e.chunk, e.layer}] = e.begin;
  }
  for (TimelineEvent& e : events) {
    if (e.stage != Stage::kSend) continue;
    const SegmentKey key{e.chunk, e.layer};
    if (const auto it = gathered.find(key); it != gathered.end())
      e.begin = std::max(e.begin, it->second);
    const auto it = copied.find(key);
    e.end = std::max(e.begin, it != copied.end() ? it->second : e.end);
  }
  const TimePoint zero = std::min_element(events.begin(), events.end(), [](auto& a, auto& b) {
                           return a.begin < b.begin;
                         })->begin;
  Json list = Json::array();
  list.push_back(named("process_name", kSenderPid, 0, "sender"));
  list.push_back(named("process_name", kReceiverPid, 0, "receiver"));
  for (const Stage stage : {Stage::kCompute, Stage::kGather, Stage::kSend, Stage::kVerifyScatter}) {
    const Row row = row_of(stage);
    list.push_back(named("thread_name", row.pid, row.tid, row.name));
  }
  for (const TimelineEvent& e : events) {
    const Row row = row_of(e.stage);
    // Sends overlap each other: an asynchronous slice each. The others never do.
    const std::string name = "layer " + std::to_string(e.layer);
    Json event{{"name", name},
               {"cat", row.name},
               {"pid", row.pid},
               {"tid", row.tid},
               {"ts", microseconds(e.begin - zero)},
               {"args", {{"chunk", e.chunk}, {"layer", e.layer}, {"bytes", e.bytes}}}};
    if (e.stage != Stage::kSend) {
      event["ph"] = "X";
      event["dur"] = microseconds(e.end - e.begin);
      list.push_back(std::move(event));
      continue;
    }
    event["name"] = "send " + name;
    event["id"] = std::to_string(e.chunk) + "/" + std::to_string(e.layer);
    event["ph"] = "b";
    list.push_back(event);
    event["ph"] = "e";
    event["ts"] = microseconds(e.end - zero);
    list.push_back(std::move(event));
  }
  std::ofstream out(file);
  out << Json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(list)}}.dump() << "\n";
  out.close();
  if (!out) return Status(Code::kInvalidArgument, "cannot write the timeline to '" + file + "'");
  return ok_status();
}

}  // namespace baton::bench
