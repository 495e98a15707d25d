#include "transfer/tiers/s3/urls.h"

#include <gtest/gtest.h>

namespace baton::s3 {
namespace {

Urls urls_of(const std::string& url) {
  const auto config = parse_s3_url(url);
  EXPECT_TRUE(config.ok()) << config.status().to_string();
  return Urls(*config);
}

TEST(Urls, TheBucketIsInThePathOrIsAHost) {
  const Urls path = urls_of("s3://bucket/p?endpoint=http://host:7480");
  EXPECT_EQ(path.object("p/a-0-0"), "http://host:7480/bucket/p/a-0-0");
  EXPECT_EQ(path.listing("p/", ""),
            "http://host:7480/bucket/?list-type=2&max-keys=1000&prefix=p%2F");
  const Urls host = urls_of("s3://bucket/p?endpoint=https://host:7480&style=virtual");
  EXPECT_EQ(host.object("p/a-0-0"), "https://bucket.host:7480/p/a-0-0");
  EXPECT_EQ(urls_of("s3://bucket").object("a"), "https://bucket.s3.us-east-1.amazonaws.com/a");
}

// In the order and the spelling that they are signed in.
TEST(Urls, APageIsAskedForByItsToken) {
  const Urls urls = urls_of("s3://bucket?endpoint=http://host");
  EXPECT_EQ(urls.listing("", "a+b/c=&~"),
            "http://host/bucket/?continuation-token=a%2Bb%2Fc%3D%26~&list-type=2&max-keys=1000"
            "&prefix=");
}

}  // namespace
}  // namespace baton::s3
