// Command lines, with our way of ending: help exits 0, a wrong flag is one clear line on stderr and
// exit code 2.
//
// CLI11 does the work and is seen by cli.cc alone, since in every file that includes it it would be
// most of what there is to compile.
// Thread safety: externally synchronised.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace baton {

// Says more of an option. A handle: the option lives as long as its command line.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option* option) : option_(option) {}

  CommandOption required() const;
  // Both ends included. T: unsigned, uint64_t, int, int64_t.
  template <typename T>
  CommandOption range(T low, T high) const;
  CommandOption one_of(const std::vector<std::string>& words) const;
  // Values of a list that come in one word.
  CommandOption delimiter(char between) const;
  // Of a list: may be given again and again, with one value each time.
  CommandOption repeatable() const;
  CommandOption excludes(const CommandOption& other) const;
  // --help says what holds without it: the value at the time of this call.
  CommandOption shows_default() const;
  // --help does not say that it is there.
  CommandOption hidden() const;

 private:
  CLI::Option* option_;
};

// A program's options, or those of one of its commands. A handle likewise.
class Command {
 public:
  Command() = default;  // none; to be assigned
  explicit Command(CLI::App* app) : app_(app) {}

  // Parsing writes to `value`. T: std::string, uint16_t, uint32_t, uint64_t, int, int64_t, and
  // vectors of std::string and uint32_t.
  template <typename T>
  CommandOption add_option(const std::string& name, T& value,
                           const std::string& meaning = "") const;
  CommandOption add_flag(const std::string& name, bool& value, const std::string& meaning) const;
  Command add_command(const std::string& name, const std::string& meaning = "") const;
  // --help does not say that this command is there.
  Command hidden() const;

  // After parsing: whether this command was given, and whether that option of it was.
  bool given() const;
  bool given(const std::string& option) const;

 private:
  friend class CommandLine;
  CLI::App* app_ = nullptr;
};

class CommandLine : public Command {
 public:
  CommandLine(const std::string& meaning, const std::string& program);
  ~CommandLine();

  // How many commands there must be at least and at most.
  void require_commands(size_t least, size_t most);
  // Returns -1 to go on, or the exit code that main should return at once.
  int parse(int argc, char** argv);
  bool any_command_given() const;

  // Prints "<program>: <message>" on one line and returns 2, for what only shows after parsing.
  int usage_error(const std::string& message) const;

 private:
  const std::unique_ptr<CLI::App> owned_;
};

}  // namespace baton
