// An authority for tests and what it signs, as PEM files in a folder that goes with it.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "transfer/control/tls.h"

namespace baton::control::testing {

class Authority {
 public:
  Authority() : key_(EVP_EC_gen("P-256")), folder_(make_folder()) {
    const CertificatePtr own = sign(*key_, *key_, "authority", 3600);
    write(path("ca.pem"), [&](std::FILE* to) { PEM_write_X509(to, own.get()); });
  }
  ~Authority() { std::filesystem::remove_all(folder_); }

  // Files of a node with a certificate of this authority, valid for so many seconds from now.
  TlsFiles issue(const std::string& name, long seconds = 3600) {
    const KeyPtr key(EVP_EC_gen("P-256"));
    const CertificatePtr certificate = sign(*key, *key_, name, seconds);
    TlsFiles files{path(name + ".pem"), path(name + ".key"), path("ca.pem")};
    write(files.certificate, [&](std::FILE* to) { PEM_write_X509(to, certificate.get()); });
    write(files.key, [&](std::FILE* to) {
      PEM_write_PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
    return files;
  }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  using KeyPtr = std::unique_ptr<EVP_PKEY, Free>;
  using CertificatePtr = std::unique_ptr<X509, Free>;

  static std::string make_folder() {
    std::string pattern = ::testing::TempDir() + "authority-XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    return pattern;
  }
  static void set_name(X509_NAME* name, const std::string& text) {
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1, 0);
  }
  static CertificatePtr sign(EVP_PKEY& subject, EVP_PKEY& issuer, const std::string& name,
                             long seconds) {
    CertificatePtr certificate(X509_new());
    static long serial = 0;
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), seconds);
    set_name(X509_get_subject_name(certificate.get()), name);
    set_name(X509_get_issuer_name(certificate.get()), "authority");
    X509_set_pubkey(certificate.get(), &subject);
    EXPECT_GT(X509_sign(certificate.get(), &issuer, EVP_sha256()), 0);
    return certificate;
  }
  template <typename F>
  static void write(const std::string& path, F&& content) {
    std::FILE* file = std::fopen(path.c_str(), "w");
    ASSERT_NE(file, nullptr) << path;
    ASSERT_EQ(::fchmod(::fileno(file), 0600), 0);
    content(file);
    std::fclose(file);
  }

  const KeyPtr key_;
  const std::string folder_;
};

}  // namespace baton::control::testing
