#include "transfer/tiers/s3/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace baton::s3 {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kFile = R"(# what Amazon's tools write
[default]
aws_access_key_id = DEFAULTID
aws_secret_access_key=default/secret+key=

; another
[ baton ]
aws_access_key_id=BATONID
  nested = ignored
aws_secret_access_key =   batonsecret
aws_session_token = batontoken==
region = eu-west-1
[half]
aws_access_key_id = HALFID
[bad]
aws_access_key_id = BADID
aws_secret_access_key = white space
)";

TEST(Credentials, AProfileIsReadFromTheFile) {
  auto credentials = parse_credentials(kFile, "default", "FILE");
  ASSERT_TRUE(credentials.ok()) << credentials.status().to_string();
  EXPECT_EQ(credentials->access_key_id, "DEFAULTID");
  EXPECT_EQ(credentials->secret_access_key, "default/secret+key=");
  EXPECT_EQ(credentials->session_token, "");
  credentials = parse_credentials(kFile, "baton", "FILE");
  ASSERT_TRUE(credentials.ok());
  EXPECT_EQ(credentials->access_key_id, "BATONID");
  EXPECT_EQ(credentials->secret_access_key, "batonsecret");
  EXPECT_EQ(credentials->session_token, "batontoken==");
  std::string crlf;
  for (const char* c = kFile; *c != '\0'; ++c) crlf += *c == '\n' ? "\r\n" : std::string(1, *c);
  EXPECT_EQ(parse_credentials(crlf, "baton", "FILE")->secret_access_key, "batonsecret");
}

TEST(Credentials, WhatIsMissingIsNamedAndNoSecretIs) {
  EXPECT_THAT(parse_credentials(kFile, "nobody", "FILE").status().message(),
              HasSubstr("no profile 'nobody' of FILE"));
  EXPECT_THAT(parse_credentials(kFile, "half", "FILE").status().message(),
              HasSubstr("profile 'half' of FILE has no aws_secret_access_key"));
  const Status bad = parse_credentials(kFile, "bad", "FILE").status();
  EXPECT_EQ(bad.code(), Code::kInvalidArgument);
  EXPECT_THAT(bad.message(), AllOf(HasSubstr("profile 'bad'"), Not(HasSubstr("space"))));
  EXPECT_FALSE(parse_credentials("", "default", "FILE").ok());
}

class CredentialsOrder : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/baton-credentials-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    std::filesystem::create_directory(folder_ / ".aws");
    std::ofstream(folder_ / ".aws/credentials") << kFile;
    std::ofstream(folder_ / "other")
        << "[default]\naws_access_key_id=OTHERID\naws_secret_access_key=o\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string id(const std::string& profile, env::Aws environment) {
    environment.home = folder_;
    const auto credentials = load_credentials(profile, environment);
    return credentials.ok() ? credentials->access_key_id : credentials.status().message();
  }
  std::filesystem::path folder_;
};

TEST_F(CredentialsOrder, TheEnvironmentFirstThenAProfile) {
  const env::Aws both{.access_key_id = "ENVID", .secret_access_key = "s", .profile = "baton"};
  EXPECT_EQ(id("", both), "ENVID");
  EXPECT_EQ(id("baton", both), "BATONID");
  EXPECT_EQ(id("", {.profile = "baton"}), "BATONID");
  EXPECT_EQ(id("default", {.profile = "baton"}), "DEFAULTID");
  EXPECT_EQ(id("", {}), "DEFAULTID");
  EXPECT_EQ(id("", {.credentials_file = folder_ / "other"}), "OTHERID");
  const auto token =
      load_credentials("", {.access_key_id = "I", .secret_access_key = "s", .session_token = "t"});
  EXPECT_EQ(token->session_token, "t");
}

TEST_F(CredentialsOrder, HalfOfThemIsAMistake) {
  EXPECT_THAT(id("", {.access_key_id = "ENVID"}), HasSubstr("AWS_SECRET_ACCESS_KEY is not"));
  const std::string said = id("", {.secret_access_key = "hunter2"});
  EXPECT_THAT(said, AllOf(HasSubstr("AWS_ACCESS_KEY_ID is not"), Not(HasSubstr("hunter2"))));
  EXPECT_THAT(id("", {.credentials_file = "/nowhere"}),
              AllOf(HasSubstr("/nowhere"), HasSubstr("profile 'default'")));
  EXPECT_THAT(id("", {.access_key_id = "I", .secret_access_key = "a\nb"}),
              HasSubstr("no visible ASCII character"));
}

}  // namespace
}  // namespace baton::s3
