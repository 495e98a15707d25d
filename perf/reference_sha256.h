// OpenSSL's SHA-256 over the tokens of a prompt, chunk by chunk: what chunk keys cannot be quicker
// than.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transfer/base/status.h"

typedef struct evp_md_st EVP_MD;
typedef struct evp_md_ctx_st EVP_MD_CTX;

namespace baton::bench {

// As quick as its interface allows: the algorithm is looked up once, the context is used again.
// Externally synchronised.
class Sha256OfChunks {
 public:
  // kInternal where OpenSSL has none.
  static Result<Sha256OfChunks> create();

  Status hash(std::span<const uint32_t> tokens, uint32_t chunk_tokens);
  // Of the last prompt; kept so that nothing can be left out.
  const std::vector<std::array<unsigned char, 32>>& digests() const { return digests_; }

 private:
  struct Free {
    void operator()(EVP_MD* algorithm) const;
    void operator()(EVP_MD_CTX* context) const;
  };
  std::unique_ptr<EVP_MD, Free> algorithm_;
  std::unique_ptr<EVP_MD_CTX, Free> context_;
  std::vector<std::array<unsigned char, 32>> digests_;
};

}  // namespace baton::bench
