// A real S3 gateway, a proxy before it that makes mistakes, and boto3 (lab.py), for the tests of
// one program; started once and ended with it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "transfer/base/unique_fd.h"

namespace baton::testing {

using Json = nlohmann::json;

class Lab {
 public:
  // Started by the first call; waits until it answers.
  static Lab& get();
  ~Lab();

  // Empty where it runs; else which programs are missing.
  const std::string& missing() const { return missing_; }

  // "http://127.0.0.1:port"
  std::string gateway() const;
  std::string proxy() const;
  std::string tls_proxy() const;
  uint16_t port(const char* of) const { return where_.at(of).get<uint16_t>(); }
  std::string text(const char* of) const { return where_.at(of).get<std::string>(); }

  // A function of lab.py's Lab with its arguments. A failure there fails the test.
  Json call(const char* what, Json arguments = Json::object());

  // From now on; what was seen is forgotten.
  void rules(Json rules);
  // What the proxy has seen since.
  Json seen() { return call("seen"); }

 private:
  Lab();
  Json next_line();

  pid_t pid_ = -1;
  UniqueFd to_;
  UniqueFd from_;
  std::string read_;
  Json where_;
  std::string missing_;
};

}  // namespace baton::testing
