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

}  // namespace baton::protocol
