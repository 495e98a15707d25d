#include "transfer/base/cli.h"

#include <algorithm>
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

int usage_error(const CLI::App& app, const std::string& message) {
  std::string line = message;
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "%s: %s (see --help)\n", app.get_name().c_str(), line.c_str());
  return 2;
}

int parse_command_line(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return -1;
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    // CLI11 speaks of what is missing first, which a misspelt flag is the reason for.
    const std::string left = unexpected(app);
    return usage_error(app, left.empty() ? e.what() : left);
  }
}

}  // namespace baton
