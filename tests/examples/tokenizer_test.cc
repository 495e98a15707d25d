// Tokens: equal to a reference tokenizer's, and text comes back whole however it is streamed.
#include "examples/reference_engine/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "tests/examples/gguf_writer.h"
#include "tests/examples/tokenizer_vectors.h"
#include "transfer/base/env.h"
#include "transfer/base/utf8.h"

namespace baton::reference {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A byte as GPT-2 writes it.
std::vector<std::string> byte_alphabet() {
  std::vector<std::string> names;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
    const int c = printable ? byte : next++;
    names.push_back(c < 0x80 ? std::string(1, static_cast<char>(c))
                             : std::string{static_cast<char>(0xc0 | c >> 6),
                                           static_cast<char>(0x80 | (c & 0x3f))});
  }
  return names;
}

struct Vocabulary {
  std::vector<std::string> tokens = byte_alphabet();
  std::vector<std::string> merges = kSmallMerges;
  std::vector<int32_t> types;
  std::string rule = "smollm";
  std::string model = "gpt2";

  Vocabulary() {
    for (std::string merge : merges) tokens.push_back(merge.erase(merge.find(' '), 1));
    types.assign(tokens.size(), 1);
  }
  uint32_t add_special(const std::string& name) {
    tokens.push_back(name);
    types.push_back(3);
    return tokens.size() - 1;
  }
  Result<std::unique_ptr<Tokenizer>> load() const {
    GgufWriter w;
    w.add_string("tokenizer.ggml.model", model);
    w.add_string("tokenizer.ggml.pre", rule);
    w.add_strings("tokenizer.ggml.tokens", tokens);
    w.add_numbers<int32_t>("tokenizer.ggml.token_type", GgufType::kInt32, types);
    w.add_strings("tokenizer.ggml.merges", merges);
    const std::string bytes = w.finish();
    const auto file = parse_gguf(bytes);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    return Tokenizer::from_gguf(*file);
  }
  std::unique_ptr<Tokenizer> must_load() const {
    auto tokenizer = load();
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
    return std::move(tokenizer).value();
  }
};

void expect_vectors(const Tokenizer& tokenizer, const std::vector<TokenVector>& vectors) {
  for (const auto& [text, tokens] : vectors) {
    const auto encoded = tokenizer.encode(text);
    ASSERT_TRUE(encoded.ok()) << encoded.status().to_string();
    EXPECT_EQ(*encoded, tokens) << text;
    EXPECT_EQ(tokenizer.decode(tokens), text);
  }
}

TEST(BpeTokenizerTest, GivesTheReferencesTokens) {
  expect_vectors(*Vocabulary().must_load(), kSmallDigitsAlone);
  Vocabulary gpt2;
  gpt2.rule = "gpt-2";
  expect_vectors(*gpt2.must_load(), kSmallGpt2);
}

TEST(BpeTokenizerTest, GivesTheRealModelsTokens) {
  if (env::test_model().empty()) GTEST_SKIP() << "BATON_TEST_MODEL is not set";
  const auto file = GgufFile::open(env::test_model());
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  const auto tokenizer = Tokenizer::from_gguf(*file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  expect_vectors(**tokenizer, kSmolLm2);
}

TEST(BpeTokenizerTest, SpecialTokensCountOnlyWhereTheyAreAllowed) {
  Vocabulary vocabulary;
  const uint32_t start = vocabulary.add_special("<s>");
  const uint32_t longer = vocabulary.add_special("<s>>");
  const auto tokenizer = vocabulary.must_load();
  const auto plain = *tokenizer->encode("<s>");
  EXPECT_EQ(plain.size(), 3u);
  EXPECT_THAT(*tokenizer->encode("<s>", true), ElementsAre(start));
  EXPECT_THAT(*tokenizer->encode("a<s>>b<s>", true), ElementsAre('a', longer, 'b', start));
  // What a user writes stays text, even where it stands beside the template's own.
  const std::vector<TextPiece> pieces{{"<s>he", true}, {"llo<s>", false}, {"<s>", true}};
  auto expected = *tokenizer->encode("hello<s>");
  expected.insert(expected.begin(), start);
  expected.push_back(start);
  EXPECT_EQ(*tokenizer->encode(pieces), expected);
  // No special token out of two pieces either.
  const std::vector<TextPiece> split{{"<", true}, {"s", false}, {">", true}};
  EXPECT_EQ(*tokenizer->encode(split), plain);
  EXPECT_EQ(tokenizer->decode(std::vector<uint32_t>{start, 'a', longer}), "a");
  EXPECT_EQ(tokenizer->token_bytes(longer), "<s>>");
  EXPECT_EQ(tokenizer->token_bytes(longer + 1), "");
}

TEST(BpeTokenizerTest, TakesTimeLinearInTheText) {
  const auto tokenizer = Vocabulary().must_load();
  // One word of 200,000 letters: with quadratic merging this would take minutes.
  const std::string word(200000, 'a');
  const auto tokens = tokenizer->encode(word);
  ASSERT_TRUE(tokens.ok());
  EXPECT_EQ(tokens->size(), 50000u);
  EXPECT_EQ(tokenizer->decode(*tokens), word);
  EXPECT_TRUE(tokenizer->encode(std::string(200000, ' ') + "a").ok());
}

TEST(BpeTokenizerTest, RefusesWhatIsNotUtf8AndSaysWhere) {
  const auto tokenizer = Vocabulary().must_load();
  const std::vector<TextPiece> pieces{{"good", true}, {"bad \xc3(", false}};
  const Status status = tokenizer->encode(pieces).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("offset 8"));
}

TEST(BpeTokenizerTest, RefusesABrokenVocabulary) {
  const auto message = [](const std::function<void(Vocabulary&)>& damage) {
    Vocabulary vocabulary;
    damage(vocabulary);
    const auto result = vocabulary.load();
    return result.ok() ? "accepted" : result.status().message();
  };
  EXPECT_THAT(message([](auto& v) { v.model = "llama"; }), HasSubstr("expected \"gpt2\""));
  EXPECT_THAT(message([](auto& v) { v.rule = "qwen2"; }), HasSubstr("\"tokenizer.ggml.pre\""));
  EXPECT_THAT(message([](auto& v) { v.types.pop_back(); }), HasSubstr("token_type"));
  EXPECT_THAT(message([](auto& v) { v.merges[2] = "he"; }), HasSubstr("merge 2"));
  EXPECT_THAT(message([](auto& v) { v.merges[3] = "q z"; }), HasSubstr("merge 3"));
  EXPECT_THAT(message([](auto& v) { v.tokens[5] = "\xe6\x97\xa5"; }), HasSubstr("token 5"));
  EXPECT_THAT(message([](auto& v) { v.tokens.clear(), v.types.clear(); }), HasSubstr("found 0"));
}

TEST(ByteTokenizerTest, IsTheBytesAndAFewSpecialTokens) {
  const auto tokenizer = Tokenizer::bytes(300);
  EXPECT_EQ(tokenizer->vocab_size(), 300u);
  EXPECT_THAT(*tokenizer->encode("h\u00e9"), ElementsAre('h', 0xc3, 0xa9));
  EXPECT_THAT(*tokenizer->encode("<|im_start|>a<|im_end|>", true), ElementsAre(258, 'a', 257));
  EXPECT_EQ(tokenizer->encode("<|im_end|>")->size(), 10u);
  EXPECT_EQ(tokenizer->decode(std::vector<uint32_t>{'a', 257, 299, 300}), "a[299]");
  EXPECT_EQ(tokenizer->encode("\xff").status().code(), Code::kInvalidArgument);
}

TEST(StreamDecoderTest, NeverCutsACharacter) {
  const auto tokenizer = Tokenizer::bytes(260);
  const std::string text = "a\u00e9\u65e5\U0001f469\u200d\U0001f467!";
  StreamDecoder decoder(*tokenizer);
  std::string out;
  const auto tokens = tokenizer->encode(text);
  ASSERT_TRUE(tokens.ok());
  for (const uint32_t token : *tokens) {
    const std::string piece = decoder.push(token);
    EXPECT_FALSE(find_invalid_utf8(piece).has_value());
    out += piece;
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoderTest, WhatIsNotUtf8BecomesReplacementCharacters) {
  const auto tokenizer = Tokenizer::bytes(260);
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.push(0xe6), "");
  EXPECT_EQ(decoder.push(0x97), "");
  EXPECT_EQ(decoder.push('x'), "\ufffdx");
  EXPECT_EQ(decoder.push(0xff), "\ufffd");
  EXPECT_EQ(decoder.push(0xf0), "");
  EXPECT_EQ(decoder.push(257), "");  // a special token is no text
  EXPECT_EQ(decoder.finish(), "\ufffd");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(StreamDecoderTest, RandomTokensGiveTheSameTextWholeOrStreamed) {
  const auto tokenizer = Tokenizer::bytes(270);
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<uint32_t> tokens(40);
    for (auto& token : tokens) token = random() % 270;
    StreamDecoder decoder(*tokenizer);
    std::string streamed;
    for (const uint32_t token : tokens) streamed += decoder.push(token);
    streamed += decoder.finish();
    EXPECT_FALSE(find_invalid_utf8(streamed).has_value());
    EXPECT_EQ(streamed, tokenizer->decode(tokens));
  }
}

}  // namespace
}  // namespace baton::reference
