#include "transfer/control/tls.h"

#include <sys/stat.h>

#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <cstring>

namespace baton::control {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

Status check_files(const TlsFiles& files) {
  if (files.certificate.empty() || files.key.empty() || files.authority.empty()) {
    return Status(Code::kInvalidArgument,
                  "--tls-cert, --tls-key and --tls-ca: expected all three or none");
  }
  struct stat about {};
  if (::stat(files.key.c_str(), &about) != 0) {
    return Status(Code::kInvalidArgument, "--tls-key " + files.key + ": " + std::strerror(errno));
  }
  if ((about.st_mode & S_IRWXO) != 0) {
    return Status(Code::kInvalidArgument,
                  "--tls-key " + files.key +
                      " is open to every user of this host: expected mode 0600 or 0640");
  }
  return ok_status();
}

}  // namespace

Result<TlsContext> make_tls(const TlsFiles& files) {
  if (!files.any()) return TlsContext();
  BATON_RETURN_IF_ERROR(check_files(files));
  auto context = std::make_shared<ssl::context>(ssl::context::tls);
  error_code error;
  const auto failed = [&](const char* flag, const std::string& file) {
    return Status(Code::kInvalidArgument, std::string(flag) + " " + file + ": " + error.message(),
                  error.value());
  };
  SSL_CTX* native = context->native_handle();
  if (SSL_CTX_set_min_proto_version(native, TLS1_3_VERSION) != 1) {
    return Status(Code::kInternal, "OpenSSL has no TLS 1.3");
  }
  // Every connection proves itself anew, so there is nothing to resume.
  SSL_CTX_set_num_tickets(native, 0);
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  // A key with a passphrase would ask for it at the terminal.
  context->set_password_callback(
      [](size_t, ssl::context::password_purpose) { return std::string(); }, error);
  context->load_verify_file(files.authority, error);
  if (error) return failed("--tls-ca", files.authority);
  context->use_certificate_chain_file(files.certificate, error);
  if (error) return failed("--tls-cert", files.certificate);
  context->use_private_key_file(files.key, ssl::context::pem, error);
  if (error) return failed("--tls-key", files.key);
  return context;
}

}  // namespace baton::control
