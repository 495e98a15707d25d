// The token that lets peers in: one secret that every node, router and operator of a deployment
// knows. Nodes prove it to each other without sending it (control/auth.h); admin endpoints over
// HTTP take it as `Authorization: Bearer <token>`.
//
// No function prints it, and errors never quote it. Plain values, externally synchronised.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "transfer/base/address.h"
#include "transfer/base/status.h"

namespace baton {

using Digest = std::array<uint8_t, 32>;

Digest sha256(std::span<const std::byte> bytes);

// Whether they are equal, in a time that does not depend on where they differ.
bool equal_in_constant_time(const Digest& a, const Digest& b);

// 32 bytes from the operating system's generator, for what must not be guessed.
Digest random_digest();

class Token {
 public:
  // Characters: a header must be able to carry it, and a pasted file must not be taken for one.
  static constexpr size_t kMaxBytes = 1024;
  // Shorter ones can be guessed from an overheard proof; they are taken with a warning.
  static constexpr size_t kStrongBytes = 16;

  Token() = default;  // none
  ~Token();
  Token(const Token&) = default;
  Token(Token&&) = default;
  Token& operator=(const Token&) = default;
  Token& operator=(Token&&) = default;

  // 1 to kMaxBytes printable ASCII characters without spaces. kInvalidArgument naming `from`, where
  // it was found, and what is wrong with it.
  static Result<Token> create(std::string_view secret, const std::string& from);
  // The content of a file, without the line feed at its end. kInvalidArgument where it is not
  // there, is no regular file, may be read by everyone, or holds no token.
  static Result<Token> read_file(const std::string& path);

  bool present() const { return !secret_.empty(); }
  bool weak() const { return present() && secret_.size() < kStrongBytes; }

  // HMAC-SHA-256 of the message under the token, which must be present.
  Digest hmac(std::span<const std::byte> message) const;

  // "Bearer <token>", to be sent as Authorization.
  std::string authorization() const;
  // Whether a request with this Authorization header may pass: always where there is no token.
  bool admits(std::string_view authorization) const;

 private:
  std::string secret_;
};

// HMAC-SHA-256 under any key.
Digest hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message);

// Whether `flag` may listen at this address: at loopback always, elsewhere with a token, or when
// the user insists. kInvalidArgument naming the address and the remedies.
Status check_exposure(const char* flag, const HostPort& address, bool authenticated, bool insecure);

}  // namespace baton
