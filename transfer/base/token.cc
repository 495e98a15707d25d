#include "transfer/base/token.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transfer/base/check.h"
#include "transfer/base/unique_fd.h"

namespace baton {
namespace {

constexpr std::string_view kBearer = "Bearer ";

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

const unsigned char* chars_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

Digest sha256(std::span<const std::byte> bytes) {
  Digest digest;
  unsigned size = 0;
  BATON_CHECK(
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1 &&
          size == digest.size(),
      "SHA-256 failed");
  return digest;
}

Digest hmac_sha256(std::span<const std::byte> key, std::span<const std::byte> message) {
  Digest digest;
  unsigned size = 0;
  BATON_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), chars_of(message),
                   message.size(), digest.data(), &size) != nullptr &&
                  size == digest.size(),
              "HMAC-SHA-256 failed");
  return digest;
}

bool equal_in_constant_time(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Digest random_digest() {
  Digest digest;
  BATON_CHECK(::getrandom(digest.data(), digest.size(), 0) == static_cast<ssize_t>(digest.size()),
              "getrandom failed");
  return digest;
}

Token::~Token() { OPENSSL_cleanse(secret_.data(), secret_.size()); }

Result<Token> Token::create(std::string_view secret, const std::string& from) {
  const auto bad = [&](const std::string& text) {
    return Status(Code::kInvalidArgument, from + text);
  };
  if (secret.empty()) return bad(" is empty: expected a token");
  if (secret.size() > kMaxBytes) {
    return bad(" holds more than the " + std::to_string(kMaxBytes) +
               " characters that a token may have");
  }
  if (!std::all_of(secret.begin(), secret.end(), [](char c) { return c > ' ' && c <= '~'; })) {
    return bad(
        " holds a character that no token may have: expected printable ASCII without spaces");
  }
  Token token;
  token.secret_ = secret;
  return token;
}

Result<Token> Token::read_file(const std::string& path) {
  const std::string name = "token file " + path;
  const auto bad = [&](const std::string& text) {
    return Status(Code::kInvalidArgument, name + text);
  };
  // Non-blocking: a FIFO would hold up the start.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return bad(std::string(": ") + std::strerror(errno));
  struct stat about {};
  if (::fstat(fd.get(), &about) != 0) return bad(std::string(": ") + std::strerror(errno));
  if (!S_ISREG(about.st_mode)) return bad(" is no regular file");
  if ((about.st_mode & S_IRWXO) != 0) {
    return bad(" is open to every user of this host: expected mode 0600 or 0640 (chmod o-rwx)");
  }
  std::string text(kMaxBytes + 2, '\0');  // with "\r\n", or enough to see that it is too long
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return bad(std::string(": ") + std::strerror(errno));
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  std::string_view secret(text.data(), have);
  if (secret.ends_with('\n')) secret.remove_suffix(1);
  if (secret.ends_with('\r')) secret.remove_suffix(1);
  auto token = create(secret, name);
  OPENSSL_cleanse(text.data(), text.size());
  return token;
}

Digest Token::hmac(std::span<const std::byte> message) const {
  BATON_CHECK(present(), "nothing is proven without a token");
  return hmac_sha256(bytes_of(secret_), message);
}

std::string Token::authorization() const { return std::string(kBearer) + secret_; }

bool Token::admits(std::string_view authorization) const {
  if (!present()) return true;
  // The scheme's name is no secret, and has no case (RFC 9110, 11.1).
  const bool bearer =
      authorization.size() >= kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), authorization.begin(), [](char a, char b) {
        return a == b || (a >= 'A' && a <= 'Z' && b == a + ('a' - 'A')) ||
               (a >= 'a' && a <= 'z' && b == a - ('a' - 'A'));
      });
  if (!bearer) return false;
  // Of digests, so that not even the length shows in the time it takes.
  return equal_in_constant_time(sha256(bytes_of(authorization.substr(kBearer.size()))),
                                sha256(bytes_of(secret_)));
}

Status check_exposure(const char* flag, const HostPort& address, bool authenticated,
                      bool insecure) {
  if (address.is_loopback() || authenticated || insecure) return ok_status();
  return Status(Code::kInvalidArgument,
                std::string(flag) + " is " + address.to_string() +
                    ", which other hosts can reach, and nobody would be asked who they are: set a "
                    "token in BATON_TOKEN or BATON_TOKEN_FILE, or start with --insecure");
}

}  // namespace baton
