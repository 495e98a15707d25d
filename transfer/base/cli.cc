#include "transfer/base/cli.h"

#include <algorithm>
#include <cstdio>

namespace baton {

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
    return usage_error(app, e.what());
  }
}

}  // namespace baton
