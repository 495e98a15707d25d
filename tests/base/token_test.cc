#include "transfer/base/token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "transfer/base/env.h"
#include "transfer/base/ids.h"

namespace baton {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string hex(const Digest& digest) { return to_hex(digest.data(), digest.size()); }

Token token_of(std::string_view secret) {
  auto token = Token::create(secret, "test");
  EXPECT_TRUE(token.ok()) << token.status().to_string();
  return *token;
}

TEST(Token, IsPrintableAndBounded) {
  EXPECT_FALSE(Token().present());
  EXPECT_TRUE(token_of("x").weak());
  EXPECT_FALSE(token_of(std::string(16, 'x')).weak());
  EXPECT_TRUE(token_of(std::string(1024, '~')).present());
  for (const std::string& wrong :
       {std::string(), std::string(1025, 'x'), std::string("se cret"), std::string("secret\n"),
        std::string("secr\0et", 7), std::string("sécret")}) {
    const auto token = Token::create(wrong, "BATON_TOKEN");
    ASSERT_EQ(token.status().code(), Code::kInvalidArgument) << wrong;
    EXPECT_THAT(token.status().message(), AllOf(HasSubstr("BATON_TOKEN "), Not(HasSubstr("cret"))));
  }
}

// RFC 4231, test case 2; FIPS 180-2, "abc".
TEST(Token, ComputesWhatTheStandardsSay) {
  EXPECT_EQ(hex(token_of("Jefe").hmac(bytes_of("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex(sha256(bytes_of("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Token, EqualMeansEveryByte) {
  const Digest one = random_digest();
  EXPECT_TRUE(equal_in_constant_time(one, one));
  EXPECT_FALSE(equal_in_constant_time(one, random_digest()));
  for (size_t i = 0; i < one.size(); ++i) {
    Digest other = one;
    other[i] ^= 1;
    EXPECT_FALSE(equal_in_constant_time(one, other));
  }
}

TEST(Token, AdmitsWhoeverShowsIt) {
  const Token token = token_of("open-sesame");
  EXPECT_TRUE(token.admits(token.authorization()));
  EXPECT_TRUE(token.admits("bearer open-sesame"));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "open-sesame", "Bearer open-sesam", "Bearer open-sesame ",
        "Bearer  open-sesame", "Basic open-sesame", "Bearer Open-sesame", "Bearer\topen-sesame"}) {
    EXPECT_FALSE(token.admits(wrong)) << wrong;
  }
  EXPECT_TRUE(Token().admits(""));
  EXPECT_TRUE(Token().admits("Bearer whatever"));
}

class TokenFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "token-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    ::unsetenv("BATON_TOKEN");
    ::unsetenv("BATON_TOKEN_FILE");
    std::filesystem::remove_all(folder_);
  }
  std::string write(const std::string& content, mode_t mode) {
    const std::string path = folder_ + "/token";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  std::string folder_;
};

TEST_F(TokenFile, LosesTheLineFeedAtItsEnd) {
  for (const char* content : {"secret-in-a-file", "secret-in-a-file\n", "secret-in-a-file\r\n"}) {
    const auto token = Token::read_file(write(content, 0640));
    ASSERT_TRUE(token.ok()) << token.status().to_string();
    EXPECT_TRUE(token->admits("Bearer secret-in-a-file"));
  }
  EXPECT_TRUE(Token::read_file(write(std::string(1024, 'x') + "\r\n", 0600)).ok());
}

TEST_F(TokenFile, ErrorsNameTheFileAndNotItsContent) {
  const std::pair<std::string, mode_t> wrong[] = {{"secret\n", 0644},
                                                  {"secret\n", 0602},
                                                  {"", 0600},
                                                  {"\n", 0600},
                                                  {"secret\n\n", 0600},
                                                  {"secret\nsecret\n", 0600},
                                                  {std::string(1025, 'x'), 0600},
                                                  {std::string(5000, 'x'), 0600}};
  for (const auto& [content, mode] : wrong) {
    const std::string path = write(content, mode);
    const Status status = Token::read_file(path).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << content.size() << " " << mode;
    EXPECT_THAT(status.message(), AllOf(HasSubstr(path), Not(HasSubstr("secret"))));
  }
  EXPECT_THAT(Token::read_file(write("secret\n", 0644)).status().message(), HasSubstr("chmod"));
  EXPECT_THAT(Token::read_file(folder_).status().message(), HasSubstr("no regular file"));
  EXPECT_THAT(Token::read_file(folder_ + "/absent").status().message(), HasSubstr("No such file"));
  const std::string fifo = folder_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(Token::read_file(fifo).status().message(), HasSubstr("no regular file"));
}

TEST_F(TokenFile, TheEnvironmentNamesOneSource) {
  ASSERT_TRUE(env::token().ok());
  EXPECT_FALSE(env::token()->present());
  ::setenv("BATON_TOKEN", "from-the-environment", 1);
  EXPECT_TRUE(env::token()->admits("Bearer from-the-environment"));
  ::setenv("BATON_TOKEN_FILE", write("from-the-file\n", 0600).c_str(), 1);
  EXPECT_THAT(env::token().status().message(), HasSubstr("both set"));
  ::unsetenv("BATON_TOKEN");
  EXPECT_TRUE(env::token()->admits("Bearer from-the-file"));
  ::setenv("BATON_TOKEN_FILE", "", 1);
  EXPECT_EQ(env::token().status().code(), Code::kInvalidArgument);
  ::unsetenv("BATON_TOKEN_FILE");
  ::setenv("BATON_TOKEN", "", 1);
  EXPECT_EQ(env::token().status().code(), Code::kInvalidArgument);
}

TEST(Exposure, BeyondLoopbackSomebodyMustAsk) {
  const HostPort everywhere{"0.0.0.0", 7000};
  EXPECT_TRUE(check_exposure("--node", {"127.0.0.1", 1}, false, false).ok());
  EXPECT_TRUE(check_exposure("--node", everywhere, true, false).ok());
  EXPECT_TRUE(check_exposure("--node", everywhere, false, true).ok());
  for (const HostPort& address :
       {everywhere, HostPort{"::", 7000}, HostPort{"node.example", 7000}}) {
    const Status status = check_exposure("--node", address, false, false);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("--node"), HasSubstr(address.to_string()),
                                        HasSubstr("BATON_TOKEN"), HasSubstr("--insecure")));
  }
}

}  // namespace
}  // namespace baton
