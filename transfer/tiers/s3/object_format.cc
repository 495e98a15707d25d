#include "transfer/tiers/s3/object_format.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "transfer/base/ids.h"
#include "transfer/base/text.h"
#include "transfer/base/token.h"

namespace baton::s3 {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kMagic = "BATONKV\n";
constexpr size_t kVersionAt = 8, kHeaderBytesAt = 12, kJsonBytesAt = 16, kJsonAt = 20;
constexpr size_t kDigestAt = kHeaderBytes - sizeof(Digest);

constexpr std::pair<PayloadOrder, const char*> kOrders[] = {
    {PayloadOrder::kTokenHead, "plane,token,head,dim"},
    {PayloadOrder::kHeadToken, "plane,head,token,dim"},
    {PayloadOrder::kOpaque, "opaque blocks"}};

void put_u32(Header& header, size_t at, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) header[at + i] = static_cast<std::byte>(value >> (8 * i));
}

uint32_t get_u32(std::span<const std::byte, kHeaderBytes> header, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= std::to_integer<uint32_t>(header[at + i]) << (8 * i);
  return value;
}

// 16 digits, so that all are as long.
std::string hex_u64(uint64_t value) {
  std::array<uint8_t, 8> bytes;
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
  return to_hex(bytes.data(), bytes.size());
}

// Lower case only: a name has one spelling.
bool from_hex(std::string_view text, uint8_t* out, size_t bytes) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (text.size() != 2 * bytes || !std::all_of(text.begin(), text.end(), is_digit)) return false;
  for (size_t i = 0; i < bytes; ++i)
    std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, out[i], 16);
  return true;
}

std::optional<uint64_t> u64_from_hex(std::string_view text) {
  std::array<uint8_t, 8> bytes;
  if (!from_hex(text, bytes.data(), bytes.size())) return std::nullopt;
  uint64_t value = 0;
  for (const uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

std::optional<uint16_t> decimal_u16(std::string_view text) {
  uint16_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || std::to_string(value) != text) return std::nullopt;
  return value;
}

std::string order_name(PayloadOrder order) {
  for (const auto& [value, name] : kOrders)
    if (value == order) return name;
  return "";
}

std::string json_of(const Chunk& chunk) {
  Json offsets = Json::array(), checksums = Json::array();
  for (uint32_t layer = 0; layer < chunk.checksums.size(); ++layer) {
    offsets.push_back(layer_offset(layer, chunk.segment_bytes));
    checksums.push_back(hex_u64(chunk.checksums[layer].value));
  }
  const Json json = {
      {"key", chunk.id.key.to_hex()},
      {"kv_group", chunk.id.kv_group},
      {"head_group", chunk.id.head_group},
      {"fingerprint", to_hex(chunk.origin.fingerprint.data(), chunk.origin.fingerprint.size())},
      {"tenant", hex_u64(chunk.origin.tenant)},
      {"tokens", chunk.tokens},
      {"layers", chunk.checksums.size()},
      {"layer_bytes", chunk.segment_bytes},
      {"payload_order", order_name(chunk.order)},
      {"layer_offsets", std::move(offsets)},
      {"layer_checksums", std::move(checksums)}};
  return json.dump();
}

// Throws nlohmann's exceptions for what is missing or of another type.
bool read_json(const Json& json, Chunk& chunk) {
  const auto text = [&](const char* name) { return json.at(name).get<std::string>(); };
  const auto tenant = u64_from_hex(text("tenant"));
  const auto order = std::find_if(std::begin(kOrders), std::end(kOrders), [&](const auto& known) {
    return text("payload_order") == known.second;
  });
  if (!tenant || order == std::end(kOrders)) return false;
  auto& fingerprint = chunk.origin.fingerprint;
  if (!from_hex(text("key"), chunk.id.key.bytes.data(), chunk.id.key.bytes.size()) ||
      !from_hex(text("fingerprint"), fingerprint.data(), fingerprint.size()))
    return false;
  chunk.origin.tenant = *tenant;
  chunk.order = order->first;
  chunk.id.kv_group = json.at("kv_group").get<uint16_t>();
  chunk.id.head_group = json.at("head_group").get<uint16_t>();
  chunk.tokens = json.at("tokens").get<uint32_t>();
  chunk.segment_bytes = json.at("layer_bytes").get<uint64_t>();
  const Json& offsets = json.at("layer_offsets");
  const Json& checksums = json.at("layer_checksums");
  const size_t layers = json.at("layers").get<size_t>();
  if (layers == 0 || layers > kMaxLayers || offsets.size() != layers ||
      checksums.size() != layers || chunk.segment_bytes == 0 ||
      chunk.segment_bytes > kMaxObjectBytes / layers) {
    return false;
  }
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const auto checksum = u64_from_hex(checksums.at(layer).get<std::string>());
    if (!checksum) return false;
    if (offsets.at(layer).get<uint64_t>() != layer_offset(layer, chunk.segment_bytes)) return false;
    chunk.checksums.push_back({*checksum});
  }
  return true;
}

Status invalid(const std::string& what) { return Status(Code::kInvalidArgument, "s3: " + what); }

}  // namespace

Result<Header> encode_header(const Chunk& chunk) {
  const size_t layers = chunk.checksums.size();
  if (layers == 0 || layers > kMaxLayers) {
    return invalid("a chunk of " + number(layers) + " layers: an object has 1 to " +
                   number(kMaxLayers));
  }
  const uint64_t most = kMaxObjectBytes - kHeaderBytes;
  if (chunk.segment_bytes == 0 || chunk.segment_bytes > most / layers) {
    return invalid("layers of " + number(chunk.segment_bytes) + " bytes: " + number(layers) +
                   " of them must have 1 to " + number(most) + " together");
  }
  if (!chunk.slot || chunk.slot.bytes().size() < chunk.segment_bytes * layers) {
    return invalid("a chunk of " + number(chunk.segment_bytes * layers) + " bytes in a slot of " +
                   number(chunk.slot ? chunk.slot.bytes().size() : 0));
  }
  if (order_name(chunk.order).empty())
    return invalid("payload order " + number(static_cast<uint64_t>(chunk.order)) + " is unknown");
  const std::string json = json_of(chunk);
  BATON_CHECK(json.size() <= kDigestAt - kJsonAt, "kMaxLayers fit into the header");
  Header header{};
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  put_u32(header, kVersionAt, kObjectFormatVersion);
  put_u32(header, kHeaderBytesAt, kHeaderBytes);
  put_u32(header, kJsonBytesAt, static_cast<uint32_t>(json.size()));
  std::memcpy(header.data() + kJsonAt, json.data(), json.size());
  const Digest digest = sha256(std::span(header).first(kDigestAt));
  std::memcpy(header.data() + kDigestAt, digest.data(), digest.size());
  return header;
}

Result<Chunk> decode_header(std::span<const std::byte, kHeaderBytes> header) {
  if (std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0)
    return Status(Code::kChecksum, "the object does not begin as a chunk does");
  // What another version's digest is computed from is not known here.
  const uint32_t version = get_u32(header, kVersionAt);
  if (version != kObjectFormatVersion) {
    return Status(Code::kRefused, differs("the object format's version", kObjectFormatVersion,
                                          version, "in the object"));
  }
  const Digest digest = sha256(header.first(kDigestAt));
  if (std::memcmp(header.data() + kDigestAt, digest.data(), digest.size()) != 0)
    return Status(Code::kChecksum, "the object's header does not verify");
  const uint32_t json_bytes = get_u32(header, kJsonBytesAt);
  if (get_u32(header, kHeaderBytesAt) != kHeaderBytes || json_bytes > kDigestAt - kJsonAt)
    return Status(Code::kChecksum, "the object's header contradicts itself");
  const auto* const text = reinterpret_cast<const char*>(header.data()) + kJsonAt;
  Chunk chunk;
  try {
    if (read_json(Json::parse(text, text + json_bytes), chunk)) return chunk;
  } catch (const Json::exception&) {
  }
  return Status(Code::kChecksum, "the object's JSON is not that of a chunk");
}

std::string object_name(const std::string& prefix, const ChunkOrigin& origin, const ChunkId& id) {
  return listing_prefix(prefix, {.fingerprint = origin.fingerprint, .tenant = origin.tenant}) +
         id.key.to_hex() + "-" + number(id.kv_group) + "-" + number(id.head_group);
}

std::optional<ObjectName> parse_object_name(const std::string& prefix, std::string_view name) {
  const std::string before = listing_prefix(prefix, {});
  if (!name.starts_with(before)) return std::nullopt;
  name.remove_prefix(before.size());
  ObjectName parsed;
  auto& fingerprint = parsed.origin.fingerprint;
  auto& key = parsed.id.key.bytes;
  constexpr size_t kDigits = 64, kTenantDigits = 16;
  constexpr size_t kTenantAt = kDigits + 1, kKeyAt = kTenantAt + kTenantDigits + 1;
  if (name.size() < kKeyAt + kDigits + 4 || name[kDigits] != '/' || name[kKeyAt - 1] != '/')
    return std::nullopt;
  const auto tenant = u64_from_hex(name.substr(kTenantAt, kTenantDigits));
  if (!tenant || !from_hex(name.substr(0, kDigits), fingerprint.data(), fingerprint.size()) ||
      !from_hex(name.substr(kKeyAt, kDigits), key.data(), key.size())) {
    return std::nullopt;
  }
  const std::string_view groups = name.substr(kKeyAt + kDigits);
  const size_t between = groups.find('-', 1);
  if (groups.front() != '-' || between == groups.npos) return std::nullopt;
  const auto kv_group = decimal_u16(groups.substr(1, between - 1));
  const auto head_group = decimal_u16(groups.substr(between + 1));
  if (!kv_group || !head_group) return std::nullopt;
  parsed.origin.tenant = *tenant;
  parsed.id.kv_group = *kv_group;
  parsed.id.head_group = *head_group;
  return parsed;
}

std::string listing_prefix(const std::string& prefix, const ChunkFilter& filter) {
  std::string out = prefix.empty() ? "" : prefix + "/";
  if (!filter.fingerprint) return out;
  out += to_hex(filter.fingerprint->data(), filter.fingerprint->size()) + "/";
  if (filter.tenant) out += hex_u64(*filter.tenant) + "/";
  return out;
}

bool matches(const ChunkFilter& filter, const ChunkOrigin& origin) {
  return (!filter.fingerprint || *filter.fingerprint == origin.fingerprint) &&
         (!filter.tenant || *filter.tenant == origin.tenant);
}

}  // namespace baton::s3
