// Command lines: CLI11 with our way of ending: help exits 0, a wrong flag is one clear line on
// stderr and exit code 2.
#pragma once

#include <CLI/CLI.hpp>

namespace baton {

// Parses; returns -1 to go on, or the exit code that main should return at once.
int parse_command_line(CLI::App& app, int argc, char** argv);

// Prints "<program>: <message>" on one line and returns 2, for what only shows after parsing.
int usage_error(const CLI::App& app, const std::string& message);

}  // namespace baton
