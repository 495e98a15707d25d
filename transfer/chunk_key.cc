#include "transfer/chunk_key.h"

#include <openssl/evp.h>

#include <algorithm>
#include <bit>
#include <memory>

#include "transfer/base/check.h"
#include "transfer/base/ids.h"

namespace baton {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tokens and lengths are hashed as they lie in memory");

// SHA-256 of what is added to it. OpenSSL 3 looks an algorithm up by name each time unless it was
// fetched before, so the algorithm is kept for the process and a context for each thread.
class Sha256 {
 public:
  Sha256() {
    static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    BATON_CHECK(algorithm != nullptr && EVP_DigestInit_ex2(context(), algorithm, nullptr) == 1,
                "OpenSSL has no SHA-256");
  }
  void add(const void* data, size_t bytes) {
    BATON_CHECK(EVP_DigestUpdate(context(), data, bytes) == 1, "SHA-256 failed");
  }
  ChunkKey finish() {
    ChunkKey key;
    unsigned bytes = 0;
    BATON_CHECK(
        EVP_DigestFinal_ex(context(), key.bytes.data(), &bytes) == 1 && bytes == key.bytes.size(),
        "SHA-256 failed");
    return key;
  }

 private:
  struct FreeContext {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  static EVP_MD_CTX* context() {
    thread_local const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
    BATON_CHECK(context != nullptr, "OpenSSL has no memory");
    return context.get();
  }
};

std::string little_endian(uint32_t value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

void append_field(std::string& out, std::string_view field) {
  out += little_endian(static_cast<uint32_t>(field.size()));
  out += field;
}

}  // namespace

std::string ChunkKey::to_hex() const { return baton::to_hex(bytes.data(), bytes.size()); }

std::string Fingerprint::difference(const Fingerprint& theirs) const {
  const auto describe = [](const char* field, const std::string& here, const std::string& there) {
    return std::string(field) + " is '" + here + "' here and '" + there + "' there";
  };
  const auto number = [&](const char* field, uint32_t here, uint32_t there) {
    return describe(field, std::to_string(here), std::to_string(there));
  };
  if (model != theirs.model) return describe("model", model, theirs.model);
  if (dtype != theirs.dtype) return describe("dtype", dtype, theirs.dtype);
  if (layers != theirs.layers) return number("layers", layers, theirs.layers);
  if (planes != theirs.planes) return number("planes", planes, theirs.planes);
  if (kv_heads != theirs.kv_heads) return number("kv_heads", kv_heads, theirs.kv_heads);
  if (head_dim != theirs.head_dim) return number("head_dim", head_dim, theirs.head_dim);
  if (rope != theirs.rope) return describe("rope", rope, theirs.rope);
  if (opaque_layout != theirs.opaque_layout) {
    return describe("opaque_layout", opaque_layout, theirs.opaque_layout);
  }
  return "";
}

std::string Fingerprint::canonical() const {
  std::string out;
  append_field(out, model);
  append_field(out, dtype);
  for (const uint32_t number : {layers, planes, kv_heads, head_dim}) {
    append_field(out, little_endian(number));
  }
  append_field(out, rope);
  append_field(out, opaque_layout);
  return out;
}

FingerprintDigest digest(const Fingerprint& fingerprint) {
  const std::string canonical = fingerprint.canonical();
  Sha256 sha;
  sha.add(canonical.data(), canonical.size());
  return sha.finish().bytes;
}

TenantId tenant_of(std::string_view salt) {
  if (salt.empty()) return 0;
  Sha256 sha;
  sha.add(salt.data(), salt.size());
  TenantId tenant;
  std::memcpy(&tenant, sha.finish().bytes.data(), sizeof tenant);
  return tenant;
}

ChunkKey root_key(const Fingerprint& fingerprint, std::string_view adapter, std::string_view salt) {
  std::string fields;
  append_field(fields, "baton");
  append_field(fields, little_endian(kKeyFormatVersion));
  append_field(fields, fingerprint.canonical());
  append_field(fields, adapter);
  append_field(fields, salt);
  Sha256 sha;
  sha.add(fields.data(), fields.size());
  return sha.finish();
}

ChunkKey next_key(const ChunkKey& previous, std::span<const uint32_t> tokens) {
  Sha256 sha;
  sha.add(previous.bytes.data(), previous.bytes.size());
  sha.add(tokens.data(), tokens.size_bytes());
  return sha.finish();
}

std::vector<ChunkKey> key_chain(const ChunkKey& root, std::span<const uint32_t> tokens,
                                uint32_t chunk_tokens) {
  BATON_CHECK(chunk_tokens > 0, "a chunk needs tokens");
  std::vector<ChunkKey> keys;
  keys.reserve((tokens.size() + chunk_tokens - 1) / chunk_tokens);
  const ChunkKey* previous = &root;
  for (size_t at = 0; at < tokens.size(); at += chunk_tokens) {
    const size_t count = std::min<size_t>(chunk_tokens, tokens.size() - at);
    keys.push_back(next_key(*previous, tokens.subspan(at, count)));
    previous = &keys.back();
  }
  return keys;
}

}  // namespace baton
