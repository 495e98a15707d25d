#include "transfer/tiers/s3/s3_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::s3 {
namespace {

using ::testing::HasSubstr;

TEST(S3Config, SaysWhereTheBucketIs) {
  const auto config = parse_s3_url(
      "s3://my-bucket/kv/llama?endpoint=http://host:7480&region=eu-west-1&style=path&ca=%2Fetc%2Fca"
      ".pem&profile=baton&connections=32");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->bucket, "my-bucket");
  EXPECT_EQ(config->prefix, "kv/llama");
  EXPECT_EQ(config->endpoint, "http://host:7480");
  EXPECT_EQ(config->region, "eu-west-1");
  EXPECT_EQ(config->style, UrlStyle::kPath);
  EXPECT_EQ(config->ca_file, "/etc/ca.pem");
  EXPECT_EQ(config->profile, "baton");
  EXPECT_EQ(config->connections, 32u);
}

TEST(S3Config, WithoutAnEndpointItIsAmazons) {
  const auto config = parse_s3_url("s3://bucket?region=eu-central-1");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->endpoint, "https://s3.eu-central-1.amazonaws.com");
  EXPECT_EQ(config->style, UrlStyle::kVirtualHost);
  EXPECT_EQ(config->prefix, "");
  EXPECT_EQ(parse_s3_url("s3://bucket")->endpoint, "https://s3.us-east-1.amazonaws.com");
}

TEST(S3Config, ServicesWhoseBucketsAreHostsAreKnown) {
  const auto style = [](const std::string& endpoint) {
    return parse_s3_url("s3://bucket/?endpoint=" + endpoint)->style;
  };
  EXPECT_EQ(style("https://cwobject.com"), UrlStyle::kVirtualHost);
  EXPECT_EQ(style("http://cwlota.com"), UrlStyle::kVirtualHost);
  EXPECT_EQ(style("https://s3.us-west-2.amazonaws.com/"), UrlStyle::kVirtualHost);
  EXPECT_EQ(style("https://notamazonaws.com"), UrlStyle::kPath);
  EXPECT_EQ(style("http://127.0.0.1:9000"), UrlStyle::kPath);
  EXPECT_EQ(style("http://[::1]:9000"), UrlStyle::kPath);
  EXPECT_EQ(style("http://cwlota.com&style=path"), UrlStyle::kPath);
}

TEST(S3Config, WhatIsWrongIsNamedWithWhatWasExpected) {
  const struct {
    const char* url;
    const char* value;
    const char* expected;
  } kCases[] = {
      {"http://bucket", "'http://bucket'", "s3://bucket"},
      {"s3://", "the bucket is ''", "3 to 63"},
      {"s3://Bucket", "'Bucket'", "a-z, 0-9"},
      {"s3://a..b", "'a..b'", "3 to 63"},
      {"s3://-bucket", "'-bucket'", "3 to 63"},
      {"s3://bucket/a//b", "'a//b'", "no empty part"},
      {"s3://bucket/../b", "'../b'", "none that is '.' or '..'"},
      {"s3://bucket/a b", "'a b'", "A-Z"},
      {"s3://bucket//", "'/'", "no empty part"},
      {"s3://bucket?endpoint=host:80", "'host:80'", "http://host[:port]"},
      {"s3://bucket?endpoint=http://", "'http://'", "http://host[:port]"},
      {"s3://bucket?endpoint=http://host:0", "'http://host:0'", "http://host[:port]"},
      {"s3://bucket?endpoint=http://host:99999", "'http://host:99999'", "http://host[:port]"},
      {"s3://bucket?endpoint=http://host/path", "'http://host/path'", "http://host[:port]"},
      {"s3://bucket?endpoint=http://:80", "'http://:80'", "http://host[:port]"},
      {"s3://bucket?region=", "the region is ''", "1 to 63"},
      {"s3://bucket?region=a:b", "'a:b'", "1 to 63"},
      {"s3://bucket?style=both", "'both'", "path or virtual"},
      {"s3://bucket?style=virtual&endpoint=http://10.0.0.1", "'10.0.0.1'", "style=path"},
      {"s3://bucket?style=virtual&endpoint=http://[::1]:80", "'[::1]'", "style=path"},
      {"s3://buck.et?region=eu-west-1", "'buck.et'", "no certificate would match"},
      {"s3://bucket?connections=0", "'0'", "1 to 256"},
      {"s3://bucket?connections=257", "'257'", "1 to 256"},
      {"s3://bucket?connections=8x", "'8x'", "1 to 256"},
      {"s3://bucket?ca=", "ca is ''", "a file of certificates"},
      {"s3://bucket?profile=", "profile is ''", "a section"},
      {"s3://bucket?ca=%2", "'%2'", "two hexadecimal digits"},
      {"s3://bucket?ca=%00", "'%00'", "no control character"},
      {"s3://bucket?endpoin=http://host", "unknown parameter 'endpoin'", "endpoint, region, style"},
      {"s3://bucket?path", "a parameter is 'path'", "name=value"},
  };
  for (const auto& wrong : kCases) {
    const auto config = parse_s3_url(wrong.url);
    ASSERT_FALSE(config.ok()) << wrong.url;
    EXPECT_EQ(config.status().code(), Code::kInvalidArgument) << wrong.url;
    EXPECT_THAT(config.status().message(), HasSubstr(wrong.value)) << wrong.url;
    EXPECT_THAT(config.status().message(), HasSubstr(wrong.expected)) << wrong.url;
  }
}

TEST(S3Config, ASecretInTheEndpointIsNotRepeated) {
  const auto config = parse_s3_url("s3://bucket?endpoint=http://me:hunter2@host");
  ASSERT_FALSE(config.ok());
  EXPECT_THAT(config.status().message(), HasSubstr("credentials come from the environment"));
  EXPECT_THAT(config.status().message(), ::testing::Not(HasSubstr("hunter2")));
}

TEST(S3Config, BoundsAreChecked) {
  S3Config config = *parse_s3_url("s3://bucket");
  EXPECT_TRUE(validate(config).ok());
  config.tries = 0;
  EXPECT_EQ(validate(config).code(), Code::kInvalidArgument);
  config.tries = 1;
  config.page_objects = 1001;
  EXPECT_EQ(validate(config).code(), Code::kInvalidArgument);
  config.page_objects = 1000;
  config.range_bytes = 0;
  EXPECT_EQ(validate(config).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::s3
