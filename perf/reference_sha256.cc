#include "perf/reference_sha256.h"

#include <openssl/evp.h>

#include <algorithm>

namespace baton::bench {

void Sha256OfChunks::Free::operator()(EVP_MD* algorithm) const { EVP_MD_free(algorithm); }
void Sha256OfChunks::Free::operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }

Result<Sha256OfChunks> Sha256OfChunks::create() {
  Sha256OfChunks out;
  out.algorithm_.reset(EVP_MD_fetch(nullptr, "SHA256", nullptr));
  out.context_.reset(EVP_MD_CTX_new());
  if (out.algorithm_ == nullptr || out.context_ == nullptr)
    return Status(Code::kInternal, "OpenSSL has no SHA-256");
  return out;
}

Status Sha256OfChunks::hash(std::span<const uint32_t> tokens, uint32_t chunk_tokens) {
  digests_.clear();
  for (size_t at = 0; at < tokens.size(); at += chunk_tokens) {
    const size_t count = std::min<size_t>(chunk_tokens, tokens.size() - at);
    unsigned length = 0;
    digests_.emplace_back();
    if (EVP_DigestInit_ex2(context_.get(), algorithm_.get(), nullptr) != 1 ||
        EVP_DigestUpdate(context_.get(), tokens.data() + at, count * sizeof(uint32_t)) != 1 ||
        EVP_DigestFinal_ex(context_.get(), digests_.back().data(), &length) != 1)
      return Status(Code::kInternal, "EVP_Digest failed");
  }
  return ok_status();
}

}  // namespace baton::bench
