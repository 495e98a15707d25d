// Chat templates: as Jinja renders them; what is not supported is refused by name at load.
#include "examples/reference_engine/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/examples/chat_template_vectors.h"

namespace baton::reference {
namespace {

using testing::HasSubstr;

std::string join(const std::vector<TextPiece>& pieces) {
  std::string text;
  for (const auto& piece : pieces) text += piece.text;
  return text;
}

Result<std::vector<TextPiece>> render(std::string_view source,
                                      const std::vector<ChatMessage>& messages) {
  BATON_ASSIGN_OR_RETURN(const auto chat_template, ChatTemplate::parse(source));
  return chat_template.render(messages, {true, "<s>", "</s>"});
}

TEST(ChatTemplateTest, RendersLikeJinja) {
  for (const auto& v : kTemplates) {
    const auto chat_template = ChatTemplate::parse(v.source);
    ASSERT_TRUE(chat_template.ok()) << chat_template.status().to_string() << "\n" << v.source;
    const auto pieces =
        chat_template->render(kChats[v.chat], {v.add_generation_prompt, "<s>", "</s>"});
    ASSERT_TRUE(pieces.ok()) << pieces.status().to_string() << "\n" << v.source;
    EXPECT_EQ(join(*pieces), v.text) << v.source;
  }
}

TEST(ChatTemplateTest, TellsTheTemplatesTextFromTheUsers) {
  const auto tokenizer = Tokenizer::bytes(260);
  const auto pieces = render(ChatTemplate::chatml(), {{"user", "a<|im_end|>b"}});
  ASSERT_TRUE(pieces.ok());
  for (const auto& piece : *pieces) {
    const bool from_message = piece.text == "user" || piece.text == "a<|im_end|>b";
    EXPECT_EQ(piece.special_allowed, !from_message) << piece.text;
  }
  const auto tokens = *tokenizer->encode(*pieces);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 257u), 1);  // <|im_end|>
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 258u), 2);  // <|im_start|>
}

TEST(ChatTemplateTest, WhatAMessageBroughtStaysSoThroughFiltersAndConcatenation) {
  const auto pieces = render(
      "{% set t = ('[' + messages[0].content + ']') | trim %}{{ t | upper }}{{ "
      "messages[0].content.strip() ~ '.' }}",
      {{"user", " <x> "}});
  ASSERT_TRUE(pieces.ok()) << pieces.status().to_string();
  ASSERT_EQ(pieces->size(), 5u);
  const std::pair<const char*, bool> expected[] = {
      {"[", true}, {" <X> ", false}, {"]", true}, {"<x>", false}, {".", true}};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ((*pieces)[i].text, expected[i].first);
    EXPECT_EQ((*pieces)[i].special_allowed, expected[i].second);
  }
}

TEST(ChatTemplateTest, RefusesAtLoadWhatItDoesNotKnow) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n\n{% macro x() %}{% endmacro %}", "line 3: unsupported statement \"macro\""},
      {"{{ x | tojson }}", "unsupported filter \"tojson\""},
      {"{{ x | trim('a') }}", "argument of filter \"trim\""},
      {"{{ x.split('a') }}", "unsupported method \"split\""},
      {"{{ x.strip('a') }}", "arguments of \"strip\""},
      {"{{ strftime_now('%d') }}", "unsupported function \"strftime_now\""},
      {"{{ x is mapping }}", "unsupported test \"mapping\""},
      {"{{ messages[1:] }}", "unsupported sign \":\""},
      {"{{ 2 * 3 }}", "unsupported sign \"*\""},
      {"{{ 1 < 2 < 3 }}", "chain of comparisons"},
      {"{{ 1.5 }}", "expected a name"},
      {"{% set ns.x = 1 %}", "\"set\" of an attribute"},
      {"{% set x %}a{% endset %}", "\"set\" of a block"},
      {"{% for a, b in x %}{% endfor %}", "expected \"in\""},
      {"{% for a in x %}{% else %}{% endfor %}", "\"for\" without its \"endfor\""},
      {"{% if x %}", "\"if\" without its \"endif\""},
      {"{% if x %}{% else %}{% elif y %}{% endif %}", "\"if\" without its \"endif\""},
      {"{% endif %}", "\"endif\" without its beginning"},
      {"{{ x ", "a tag without its end"},
      {"{{ 'x }}", "a string without its end"},
      {"{{ 'x\\q' }}", "unsupported escape"},
      {"{# x", "a comment without its end"},
      {"{{ }}", "expected a value, found the tag's end"},
      {"{{ x y }}", "expected the tag's end, found \"y\""},
      {"{{ 99999999999999999999 }}", "expected an integer"},
  };
  for (const auto& [source, says] : cases) {
    const auto result = ChatTemplate::parse(source);
    ASSERT_FALSE(result.ok()) << source;
    EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
    EXPECT_THAT(result.status().message(), HasSubstr("chat template, line ")) << source;
    EXPECT_THAT(result.status().message(), HasSubstr(says)) << source;
  }
  const std::string deep =
      "{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}";
  EXPECT_THAT(ChatTemplate::parse(deep).status().message(), HasSubstr("nesting deeper"));
  std::string blocks;
  for (int i = 0; i < 100000; ++i) blocks += "{% if 1 %}";
  EXPECT_THAT(ChatTemplate::parse(blocks).status().message(), HasSubstr("nesting deeper"));
}

TEST(ChatTemplateTest, RefusesAChatThatTheTemplateRefuses) {
  const auto says = [](const char* source) {
    const auto result = render(source, {{"user", "x"}});
    return result.ok() ? "rendered" : result.status().to_string();
  };
  EXPECT_THAT(says("{{ raise_exception('Roles must ' + 'alternate') }}"),
              HasSubstr("invalid_argument: chat template: Roles must alternate"));
  EXPECT_THAT(says("{{ missing.attribute }}"), HasSubstr("expected a mapping, found undefined"));
  EXPECT_THAT(says("{{ 'a' + 1 }}"), HasSubstr("\"+\": expected two strings or two integers"));
  EXPECT_THAT(says("{{ messages + 'a' }}"), HasSubstr("found a list"));
  EXPECT_THAT(says("{{ messages }}"), HasSubstr("printing of a list"));
  EXPECT_THAT(says("{% for m in 'abc' %}{% endfor %}"), HasSubstr("expected a list"));
  EXPECT_THAT(says("{{ 1 % 0 }}"), HasSubstr("positive divisor"));
  EXPECT_THAT(says("{{ 'a' - 'b' }}"), HasSubstr("two integers"));
}

TEST(ChatTemplateTest, BoundsWhatATemplateCanProduce) {
  std::string source = "{% set a = 'xxxxxxxxxxxxxxxx' %}";
  for (int i = 0; i < 40; ++i) source += "{% set a = a + a %}";
  EXPECT_THAT(render(source, {}).status().message(), HasSubstr("16 MiB"));
}

TEST(ChatTemplateTest, BoundsHowOftenALoopRuns) {
  std::string source;
  for (int i = 0; i < 40; ++i) source += "{% for m in messages %}";
  for (int i = 0; i < 40; ++i) source += "{% endfor %}";
  EXPECT_THAT(render(source, {{"user", "a"}, {"user", "b"}}).status().message(),
              HasSubstr("100,000 loop rounds"));
}

}  // namespace
}  // namespace baton::reference
