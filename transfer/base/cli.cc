#include "transfer/base/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace baton {

namespace {

// What CLI11 did not know what to do with; empty where there is nothing. Flags before words: a
// flag's value is left over with it.
std::string unexpected(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(/*recurse=*/true);
  const auto is_flag = [](const std::string& word) { return word.size() > 1 && word[0] == '-'; };
  const auto flag = std::find_if(left.begin(), left.end(),
                                 [&](const auto& word) { return is_flag(word) && word != "--"; });
  if (flag != left.end()) return "unknown flag '" + flag->substr(0, flag->find('=')) + "'";
  const auto word =
      std::find_if(left.begin(), left.end(), [&](const auto& word) { return word != "--"; });
  return word != left.end() ? "unexpected '" + *word + "'" : "";
}

}  // namespace

CommandOption CommandOption::required() const {
  option_->required();
  return *this;
}

template <typename T>
CommandOption CommandOption::range(T low, T high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}
template CommandOption CommandOption::range(uint32_t, uint32_t) const;
template CommandOption CommandOption::range(uint64_t, uint64_t) const;
template CommandOption CommandOption::range(int, int) const;
template CommandOption CommandOption::range(int64_t, int64_t) const;

CommandOption CommandOption::one_of(const std::vector<std::string>& words) const {
  option_->check(CLI::IsMember(words));
  return *this;
}

CommandOption CommandOption::delimiter(char between) const {
  option_->delimiter(between);
  return *this;
}

CommandOption CommandOption::repeatable() const {
  // CLI11 would take following words too; one flag is one value.
  option_->expected(1)->take_all();
  return *this;
}

CommandOption CommandOption::excludes(const CommandOption& other) const {
  option_->excludes(other.option_);
  return *this;
}

CommandOption CommandOption::shows_default() const {
  option_->capture_default_str();
  return *this;
}

CommandOption CommandOption::hidden() const {
  option_->group("");
  return *this;
}

template <typename T>
CommandOption Command::add_option(const std::string& name, T& value,
                                  const std::string& meaning) const {
  return CommandOption(app_->add_option(name, value, meaning));
}
template CommandOption Command::add_option(const std::string&, std::string&,
                                           const std::string&) const;
template CommandOption Command::add_option(const std::string&, uint16_t&, const std::string&) const;
template CommandOption Command::add_option(const std::string&, uint32_t&, const std::string&) const;
template CommandOption Command::add_option(const std::string&, uint64_t&, const std::string&) const;
template CommandOption Command::add_option(const std::string&, int&, const std::string&) const;
template CommandOption Command::add_option(const std::string&, int64_t&, const std::string&) const;
template CommandOption Command::add_option(const std::string&, std::vector<std::string>&,
                                           const std::string&) const;
template CommandOption Command::add_option(const std::string&, std::vector<uint32_t>&,
                                           const std::string&) const;

CommandOption Command::add_flag(const std::string& name, bool& value,
                                const std::string& meaning) const {
  return CommandOption(app_->add_flag(name, value, meaning));
}

Command Command::add_command(const std::string& name, const std::string& meaning) const {
  return Command(app_->add_subcommand(name, meaning));
}

Command Command::hidden() const {
  app_->group("");
  return *this;
}

bool Command::given() const { return app_->parsed(); }

bool Command::given(const std::string& option) const { return app_->count(option) != 0; }

CommandLine::CommandLine(const std::string& meaning, const std::string& program)
    : owned_(std::make_unique<CLI::App>(meaning, program)) {
  app_ = owned_.get();
}

CommandLine::~CommandLine() = default;

void CommandLine::require_commands(size_t least, size_t most) {
  owned_->require_subcommand(least, most);
}

bool CommandLine::any_command_given() const { return !owned_->get_subcommands().empty(); }

int CommandLine::usage_error(const std::string& message) const {
  std::string line = message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "%s: %s (see --help)\n", owned_->get_name().c_str(), line.c_str());
  return 2;
}

int CommandLine::parse(int argc, char** argv) {
  try {
    owned_->parse(argc, argv);
    return -1;
  } catch (const CLI::Success& e) {
    return owned_->exit(e);
  } catch (const CLI::ParseError& e) {
    // CLI11 speaks of what is missing first, which a misspelt flag is the reason for.
    const std::string left = unexpected(*owned_);
    return usage_error(left.empty() ? e.what() : left);
  }
}

}  // namespace baton
