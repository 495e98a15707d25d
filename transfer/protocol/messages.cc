#include "transfer/protocol/messages.h"

#include <type_traits>

namespace baton::protocol {

const char* refuse_reason_name(RefuseReason reason) {
  switch (reason) {
    case RefuseReason::kVersion:
      return "version";
    case RefuseReason::kFingerprint:
      return "fingerprint";
    case RefuseReason::kChunkTokens:
      return "chunk_tokens";
    case RefuseReason::kLayout:
      return "layout";
    case RefuseReason::kKeys:
      return "keys";
    case RefuseReason::kNoRoom:
      return "no_room";
    case RefuseReason::kExpired:
      return "expired";
    case RefuseReason::kCancelled:
      return "cancelled";
    case RefuseReason::kUnknownHandoff:
      return "unknown_handoff";
    case RefuseReason::kDuplicate:
      return "duplicate";
    case RefuseReason::kNoChannel:
      return "no_channel";
    case RefuseReason::kIncarnation:
      return "incarnation";
    case RefuseReason::kShutdown:
      return "shutdown";
    case RefuseReason::kLimit:
      return "limit";
    case RefuseReason::kAuthentication:
      return "authentication";
  }
  return "unknown";
}

const char* message_name(const Message& message) {
  static constexpr const char* kNames[] = {
      "HELLO",  "QUEUED", "OFFER",   "ACCEPT", "REFUSE", "SENT",      "ACK",  "RESEND", "COMMIT",
      "FAILED", "CANCEL", "DRAINED", "FETCH",  "MISS",   "HEARTBEAT", "AUTH", "LOOKUP", "FOUND"};
  static_assert(std::size(kNames) == std::variant_size_v<Message>);
  return kNames[message.index()];
}

const HandoffAttempt* handoff_of(const Message& message) {
  return std::visit(
      [](const auto& m) -> const HandoffAttempt* {
        using M = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<M, Hello> || std::is_same_v<M, Heartbeat> ||
                      std::is_same_v<M, Auth> || std::is_same_v<M, Lookup> ||
                      std::is_same_v<M, Found>) {
          return nullptr;
        } else {
          return &m.handoff;
        }
      },
      message);
}

}  // namespace baton::protocol
