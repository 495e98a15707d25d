#include "transfer/protocol/codec.h"

#include <string>
#include <utility>

#include "transfer/protocol/offer.h"
#include "transfer/protocol/wire.h"

namespace baton::protocol {
namespace {

constexpr uint32_t kMaxSocketName = 107;  // sun_path without the leading NUL
constexpr uint32_t kMaxAckWords = kMaxSegments / 64;

// One description of each payload, for both directions: Io is WireWriter with a const message, or
// WireReader.

template <typename Io, typename H>
void handoff(Io& io, H& h) {
  io.bytes("handoff", h.id.bytes);
  io.integer("attempt", h.attempt);
}

template <typename Io, typename K>
void key_list(Io& io, K& keys) {
  io.list("keys", keys, kMaxChunks, 32, [&](auto& key) { io.bytes("key", key.bytes); });
}

template <typename Io, typename F>
void fingerprint(Io& io, F& f) {
  io.text("model", f.model, kMaxText);
  io.text("dtype", f.dtype, kMaxText);
  io.integer("layers", f.layers);
  io.integer("planes", f.planes);
  io.integer("kv_heads", f.kv_heads);
  io.integer("head_dim", f.head_dim);
  io.text("rope", f.rope, kMaxText);
  io.text("opaque_layout", f.opaque_layout, kMaxText);
}

template <typename M, typename T>
concept Is = std::is_same_v<std::remove_const_t<M>, T>;

template <typename Io, Is<Hello> M>
void fields(Io& io, M& m) {
  io.integer("version", m.version);
  io.text("node", m.node, kMaxText);
  io.integer("incarnation", m.incarnation.value);
  io.boolean("store", m.store);
  io.integer("chunk_bytes", m.chunk_bytes);
  fingerprint(io, m.fingerprint);
  io.integer("chunk_tokens", m.chunk_tokens);
  io.integer("opaque_block_bytes", m.opaque_block_bytes);
  io.integer("opaque_block_tokens", m.opaque_block_tokens);
  io.text("local_socket", m.local_socket, kMaxSocketName);
  io.integer("channel_nonce", m.channel_nonce);
  io.integer("tcp_port", m.tcp_port);
  io.text("ucx_address", m.ucx_address, kMaxUcxAddress);
  io.text("ucx_transports", m.ucx_transports, kMaxText);
  io.boolean("has_token", m.has_token);
  io.bytes("challenge", m.challenge);
}

template <typename Io, typename M>
requires Is<M, Queued> || Is<M, Commit> || Is<M, Drained> || Is<M, Miss>
void fields(Io& io, M& m) { handoff(io, m.handoff); }

template <typename Io, Is<Offer> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.integer("tokens", m.tokens);
  io.integer("chunk_tokens", m.chunk_tokens);
  io.boolean("retained", m.retained);
  io.integer("tenant", m.tenant);
  io.list("groups", m.groups, kMaxGroups, 15, [&](auto& group) {
    io.integer("kv_group", group.kv_group);
    io.integer("head_group", group.head_group);
    io.integer("layers", group.layers);
    io.enumeration("order", group.order, PayloadOrder::kTokenHead, PayloadOrder::kOpaque);
    io.integer("token_bytes", group.token_bytes);
    io.integer("opaque_block_tokens", group.opaque_block_tokens);
  });
  key_list(io, m.keys);
}

template <typename Io, Is<Accept> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.integer("held_tokens", m.held_tokens);
  io.bits("held_chunks", m.held_chunks, kMaxChunks);
  io.integer("window_bytes", m.window_bytes);
}

template <typename Io, Is<Refuse> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.enumeration("reason", m.reason, RefuseReason::kVersion, RefuseReason::kAuthentication);
  io.text("text", m.text, kMaxText);
}

template <typename Io, Is<Sent> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.integer_within("segments", m.segments, 0, kMaxSegments);
  io.boolean("all", m.all);
  io.integer("compute_us", m.compute_us);
  io.integer("goodput", m.goodput);
}

template <typename Io, Is<Ack> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.integer_within("first_word", m.first_word, 0, kMaxAckWords - 1);
  io.list("words", m.words, kMaxAckWords - m.first_word, 8,
          [&](auto& word) { io.integer("word", word); });
}

template <typename Io, Is<Resend> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.list("segments", m.segments, kMaxResend, 4,
          [&](auto& segment) { io.integer_within("segment", segment, 0, kMaxSegments - 1); });
}

template <typename Io, Is<Failed> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.enumeration("code", m.code, Code::kInvalidArgument, Code::kInternal);
  io.text("text", m.text, kMaxText);
}

template <typename Io, Is<Cancel> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.text("text", m.text, kMaxText);
}

template <typename Io, Is<Fetch> M>
void fields(Io& io, M& m) {
  handoff(io, m.handoff);
  io.integer_within("tokens", m.tokens, 1, UINT32_MAX);
  io.integer("tenant", m.tenant);
  key_list(io, m.keys);
  io.integer("budget_ms", m.budget_ms);
}

template <typename Io, Is<Lookup> M>
void fields(Io& io, M& m) {
  io.integer("question", m.question);
  io.integer("tenant", m.tenant);
  io.integer("kv_group", m.kv_group);
  io.integer("head_group", m.head_group);
  key_list(io, m.keys);
  io.integer("budget_ms", m.budget_ms);
}

template <typename Io, Is<Found> M>
void fields(Io& io, M& m) {
  io.integer("question", m.question);
  io.bits("held", m.held, kMaxChunks);
}

template <typename Io, Is<Heartbeat> M>
void fields(Io& io, M& m) {
  io.integer("sequence", m.sequence);
}

template <typename Io, Is<Auth> M>
void fields(Io& io, M& m) {
  io.bytes("proof", m.proof);
}

// What no single field shows.
Status check(const Message& message) {
  if (const auto* offer = std::get_if<Offer>(&message)) return check_offer(*offer);
  if (const auto* fetch = std::get_if<Fetch>(&message)) {
    if (fetch->keys.empty() || fetch->keys.size() > fetch->tokens) {
      return {Code::kProtocol, "keys: " + std::to_string(fetch->keys.size()) + " for " +
                                   std::to_string(fetch->tokens) + " tokens"};
    }
  }
  return {};
}

std::string expected(const char* what, unsigned got, unsigned want) {
  return std::string(what) + " is " + std::to_string(got) + ", expected " + std::to_string(want);
}

// An empty message of the type with this variant index.
template <size_t I = 0>
Message message_of_index(size_t index) {
  if constexpr (I + 1 < std::variant_size_v<Message>) {
    if (index != I) return message_of_index<I + 1>(index);
  }
  return Message(std::in_place_index<I>);
}

}  // namespace

Result<FrameHeader> decode_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kFrameHeaderBytes) {
    return Status(Code::kProtocol, "frame header of " + std::to_string(bytes.size()) + " bytes");
  }
  uint8_t magic = 0, format = 0, type = 0, flags = 0;
  uint32_t payload_bytes = 0;
  WireReader io(bytes.first(kFrameHeaderBytes));
  io.integer("magic", magic);
  io.integer("format", format);
  io.integer("type", type);
  io.integer("flags", flags);
  io.integer("payload bytes", payload_bytes);
  std::string wrong;
  if (magic != kFrameMagic) {
    wrong = expected("frame magic", magic, kFrameMagic);
  } else if (format != kFrameFormat) {
    wrong = expected("frame format version", format, kFrameFormat);
  } else if (type == 0 || type > std::variant_size_v<Message>) {
    wrong = "message type is " + std::to_string(type) + ", expected 1 to " +
            std::to_string(std::variant_size_v<Message>);
  } else if (flags != 0) {
    wrong = expected("frame flags", flags, 0);
  } else if (payload_bytes > kMaxPayloadBytes) {
    wrong = "payload of " + std::to_string(payload_bytes) + " bytes, expected at most " +
            std::to_string(kMaxPayloadBytes);
  }
  if (!wrong.empty()) return Status(Code::kProtocol, std::move(wrong));
  return FrameHeader{static_cast<MessageType>(type), payload_bytes};
}

Result<Message> decode(const FrameHeader& header, std::span<const std::byte> payload) {
  const size_t index = static_cast<size_t>(header.type) - 1;
  if (index >= std::variant_size_v<Message>) {
    return Status(Code::kProtocol, "message type is " + std::to_string(index + 1));
  }
  if (payload.size() != header.payload_bytes || payload.size() > kMaxPayloadBytes) {
    return Status(Code::kProtocol, "payload of " + std::to_string(payload.size()) +
                                       " bytes, the header says " +
                                       std::to_string(header.payload_bytes));
  }
  Message message = message_of_index(index);
  WireReader io(payload);
  std::visit([&io](auto& m) { fields(io, m); }, message);
  Status status = io.status();
  if (status.ok() && io.left() != 0) {
    status = Status(Code::kProtocol, std::to_string(io.left()) + " bytes after the last field");
  }
  if (status.ok()) status = check(message);
  if (!status.ok()) {
    return Status(Code::kProtocol, std::string(message_name(message)) + ": " + status.message());
  }
  return message;
}

Result<std::vector<std::byte>> encode(const Message& message) {
  const auto refuse = [&message](const std::string& text) {
    return Status(Code::kInvalidArgument, std::string(message_name(message)) + ": " + text);
  };
  if (const Status status = check(message); !status.ok()) return refuse(status.message());
  std::vector<std::byte> frame;
  WireWriter io(frame);
  io.integer("magic", kFrameMagic);
  io.integer("format", kFrameFormat);
  io.integer("type", static_cast<uint8_t>(message.index() + 1));
  io.integer("flags", uint8_t{0});
  io.integer("payload bytes", uint32_t{0});
  std::visit([&io](const auto& m) { fields(io, m); }, message);
  if (!io.status().ok()) return refuse(io.status().message());
  const size_t payload_bytes = frame.size() - kFrameHeaderBytes;
  if (payload_bytes > kMaxPayloadBytes) {
    return refuse("payload of " + std::to_string(payload_bytes) + " bytes, expected at most " +
                  std::to_string(kMaxPayloadBytes));
  }
  for (size_t i = 0; i < 4; ++i) {
    frame[4 + i] = static_cast<std::byte>(payload_bytes >> (8 * i) & 0xff);
  }
  return frame;
}

}  // namespace baton::protocol
