// Mutual TLS 1.3 for control connections (OpenSSL through Asio): both sides show a certificate and
// check the other's against one authority. Whoever has a certificate of that authority is let in,
// whatever name is in it: it must be an authority for this deployment alone.
//
// Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "transfer/base/status.h"

namespace boost::asio::ssl {
class context;
}

namespace baton::control {

// PEM files; all three or none.
struct TlsFiles {
  std::string certificate;  // of this node, with the chain below the authority's
  std::string key;          // closed to other users, without a passphrase
  std::string authority;    // whose certificates are taken
  bool any() const { return !certificate.empty() || !key.empty() || !authority.empty(); }
};

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

// Null where no file is given. Errors: kInvalidArgument naming the file.
Result<TlsContext> make_tls(const TlsFiles& files);

}  // namespace baton::control
