#include "transfer/tiers/s3/s3_xml.h"

#include <gtest/gtest.h>

namespace baton::s3 {
namespace {

TEST(S3Xml, AnErrorHasACode) {
  EXPECT_EQ(error_code("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>"
                       "<Message>It is not there</Message></Error>"),
            "NoSuchKey");
  EXPECT_EQ(error_code(""), "");
  EXPECT_EQ(error_code("<html><Code>No</Code></html>"), "");
  EXPECT_EQ(error_code("<Error><Code>Slow"), "Slow");  // only the beginning of a text is kept
  EXPECT_EQ(error_code("<Error><Code>A code\nwith a line</Code></Error>"), "");
  EXPECT_EQ(error_code("<Error><Code>" + std::string(65, 'A') + "</Code></Error>"), "");
}

TEST(S3Xml, AListingHasObjectsAndMayGoOn) {
  const auto page = parse_listing(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<IsTruncated>true</IsTruncated><NextContinuationToken>a+b=</NextContinuationToken>
<Contents><Key>kv/a&amp;b</Key><Size>16384</Size></Contents>
<Contents><Key>kv/c</Key><ETag>&quot;x&quot;</ETag><Size>0</Size></Contents></ListBucketResult>)");
  ASSERT_TRUE(page.ok()) << page.status().to_string();
  ASSERT_EQ(page->objects.size(), 2u);
  EXPECT_EQ(page->objects[0].name, "kv/a&b");
  EXPECT_EQ(page->objects[0].bytes, 16384u);
  EXPECT_EQ(page->objects[1].name, "kv/c");
  EXPECT_EQ(page->next, "a+b=");
  const auto last = parse_listing(
      "<ListBucketResult><IsTruncated>false</IsTruncated>"
      "<NextContinuationToken>x</NextContinuationToken>"
      "</ListBucketResult>");
  ASSERT_TRUE(last.ok());
  EXPECT_TRUE(last->objects.empty());
  EXPECT_EQ(last->next, "");
}

TEST(S3Xml, WhatIsNoListingIsSaidToBeNone) {
  for (const char* text :
       {"", "{}", "<html></html>", "<ListBucketResult><Contents><Key>a</Key>",
        "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key></Key><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"}) {
    EXPECT_EQ(parse_listing(text).status().code(), Code::kProtocol) << text;
  }
}

}  // namespace
}  // namespace baton::s3
