// What two HELLOs must agree on, and which lives of a node were seen.
//
// Confined to one thread; no I/O.
#pragma once

#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "transfer/protocol/messages.h"

namespace baton::control {

// Why the node that says `ours` cannot work with the one that says `theirs`, as the REFUSE to send;
// its text names the field and both values. Nothing where they agree.
std::optional<protocol::Refuse> disagreement(const protocol::Hello& ours,
                                             const protocol::Hello& theirs);

// Which of two nodes decides which of their connections stays: the one with the smaller address.
bool decides(const protocol::Hello& ours, const protocol::Hello& theirs);

// A peer's text for a log line: control characters (C0, DEL and C1, which some terminals obey) and
// what is no UTF-8 become '?'.
std::string printable(std::string_view text);

// The lives of the nodes that were let in. A life is over when a newer one of the same node was let
// in: what it still says is refused, as long as it is remembered (the bounds below).
class Lives {
 public:
  enum class Verdict { kFirst, kCurrent, kNewer, kOver };

  // What `incarnation` of `node` is; changes nothing.
  Verdict judge(const std::string& node, Incarnation incarnation) const;
  // Makes it the current life of its node.
  void begin(const std::string& node, Incarnation incarnation);

  // Bounds: nodes remembered, and past lives remembered of each.
  static constexpr size_t kMaxNodes = 4096;
  static constexpr size_t kMaxPast = 16;

 private:
  struct Node {
    Incarnation current;
    std::list<Incarnation> past;                  // newest first
    std::list<std::string>::iterator in_recency;  // of recency_
  };
  std::unordered_map<std::string, Node> nodes_;
  std::list<std::string> recency_;  // least recently begun last
};

}  // namespace baton::control
