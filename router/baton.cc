// baton X …: runs baton-X, which lies beside this program, as git does.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

namespace fs = std::filesystem;

namespace {

constexpr const char* kPrefix = "baton-";

std::set<std::string> commands(const fs::path& folder) {
  std::set<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && entry.is_regular_file(ignored) &&
        ::access(entry.path().c_str(), X_OK) == 0) {
      found.insert(name.substr(std::strlen(kPrefix)));
    }
  }
  return found;
}

int list(const fs::path& folder, std::FILE* out) {
  std::fprintf(out, "usage: baton COMMAND [ARGUMENT…]\n\ncommands beside this program:\n");
  for (const std::string& name : commands(folder)) std::fprintf(out, "  %s\n", name.c_str());
  std::fprintf(out, "\n'baton COMMAND --help' explains one.\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (error) {
    std::fprintf(stderr, "baton: cannot find its own folder: %s\n", error.message().c_str());
    return 1;
  }
  if (argc < 2) return list(folder, stdout);
  const std::string command = argv[1];
  if (command == "--help" || command == "-h" || command == "help") return list(folder, stdout);
  if (!commands(folder).contains(command)) {
    std::fprintf(stderr, "baton: there is no command '%s' ('baton' alone lists what is there)\n",
                 command.c_str());
    return 2;
  }
  const std::string program = (folder / (kPrefix + command)).string();
  ::execv(program.c_str(), argv + 1);
  std::fprintf(stderr, "baton: cannot run %s: %s\n", program.c_str(), std::strerror(errno));
  return 1;
}
