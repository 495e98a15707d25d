#include "scheduler/s3_fifo.h"

#include <algorithm>

namespace baton::scheduler {

void S3Fifo::enqueue(Item item, Queue queue) {
  state(item).list = queue;
  lists().move_to_back(queue, item);
}

void S3Fifo::inserted(Item item) {
  const State& s = state(item);
  const bool again = ghosts_.recall(s.key).has_value();
  enqueue(item, again ? kMain : s.tail ? kTails : kSmall);
}

void S3Fifo::used(Item item) {
  State& s = state(item);
  s.uses = std::min<uint8_t>(s.uses + 1, kMostUses);
}

void S3Fifo::released(Item item) {
  if (lists().list_of(item) == ItemLists::kNoList) lists().move_to_back(state(item).list, item);
}

Item S3Fifo::candidate() {
  // A turn that takes nothing out uses up a use, or the one move from one queue into another.
  while (true) {
    const bool tails_full = lists().size(kTails) * 100 > size() * kTailPercent;
    const bool small_full = lists().size(kSmall) * 100 >= size() * kSmallPercent;
    Queue from = tails_full ? kTails : small_full ? kSmall : kMain;
    // The queue whose turn it is may be empty, others not.
    for (const Queue other : {kMain, kSmall, kTails})
      if (lists().front(from) == kNoItem) from = other;
    const Item item = lists().front(from);
    if (item == kNoItem || state(item).uses == 0) return item;
    if (from == kMain) {
      --state(item).uses;
    } else {
      state(item).uses = 0;
    }
    enqueue(item, kMain);
  }
}

void S3Fifo::leaves(Item item) {
  const State& s = state(item);
  if (s.list == kSmall) ghosts_.remember(s.key, 0, (size() + 1) * kRememberedPerKept);
}

}  // namespace baton::scheduler
