#include "transfer/protocol/effects.h"

namespace baton::protocol {

const char* end_name(End end) {
  switch (end) {
    case End::kCommitted:
      return "committed";
    case End::kRefused:
      return "refused";
    case End::kCancelled:
      return "cancelled";
    case End::kExpired:
      return "expired";
    case End::kFailed:
      return "failed";
  }
  return "unknown";
}

RefuseReason refusal_after(End end) {
  return end == End::kCancelled ? RefuseReason::kCancelled : RefuseReason::kExpired;
}

}  // namespace baton::protocol
