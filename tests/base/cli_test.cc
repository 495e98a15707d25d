#include "transfer/base/cli.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace baton {
namespace {

struct Parsed {
  int code = 0;
  std::string said;
};

// By a program with a flag that must be there, one that is a number, and a command with a flag.
Parsed parse(std::vector<std::string> words) {
  CommandLine app("Tests.", "program");
  std::string model;
  int number = 0;
  app.add_option("--model", model).required();
  app.add_option("--number", number);
  Command command = app.add_command("ask");
  command.add_option("--whom", model);
  words.insert(words.begin(), "program");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  ::testing::internal::CaptureStderr();
  const int code = app.parse(static_cast<int>(arguments.size()), arguments.data());
  return {code, ::testing::internal::GetCapturedStderr()};
}

TEST(CommandLine, AnUnknownFlagIsNamedBeforeWhatIsMissing) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--modle", "x"},
                                             {"--modle=x"},
                                             {"--number", "1", "--modle", "x"},
                                             {"--modle", "x", "--number", "many"},
                                             {"--model", "x", "--modle", "y"},
                                             {"--model", "x", "ask", "--modle", "y"}}) {
    const Parsed parsed = parse(words);
    EXPECT_EQ(parsed.code, 2);
    EXPECT_EQ(parsed.said, "program: unknown flag '--modle' (see --help)\n");
  }
}

TEST(CommandLine, AWordTooManyIsNamed) {
  EXPECT_EQ(parse({"walk"}).said, "program: unexpected 'walk' (see --help)\n");
  EXPECT_EQ(parse({"--model", "x", "walk"}).said, "program: unexpected 'walk' (see --help)\n");
}

TEST(CommandLine, WithoutThemWhatIsMissingOrWrong) {
  EXPECT_EQ(parse({"--model", "x"}).code, -1);
  EXPECT_EQ(parse({}).said, "program: --model is required (see --help)\n");
  const Parsed wrong = parse({"--model", "x", "--number", "many"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.said.find("many"), std::string::npos) << wrong.said;
}

}  // namespace
}  // namespace baton
