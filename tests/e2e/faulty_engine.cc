// reference_engine with faults put in: a program of the tests, never of the product. It knows two
// more flags:
//   --fault SPEC         tests/fakes/faults.h
//   --hold LAYER:FIFO    before that layer of a step is handed to its sessions, the engine's thread
//                        reads one byte from the FIFO; where there is no FIFO it goes on
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "examples/reference_engine/reference_engine.h"
#include "tests/fakes/faults.h"
#include "transfer/base/unique_fd.h"

namespace {

using baton::Code;
using baton::Status;
using baton::reference::EngineSeams;

// Opened for both, so that a test that only looks whether somebody stands here ends nothing.
void wait_at(const std::string& fifo) {
  const baton::UniqueFd fd(::open(fifo.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return;
  char byte;
  while (::read(fd.get(), &byte, 1) < 0 && errno == EINTR) {
  }
}

Status set_hold(std::string_view text, EngineSeams& seams) {
  uint32_t held = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), held);
  const std::string_view rest(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error != std::errc() || rest.size() < 2 || rest[0] != ':')
    return Status(Code::kInvalidArgument, "--hold: '" + std::string(text) + "' is no LAYER:FIFO");
  seams.before_layer_ready = [held, fifo = std::string(rest.substr(1))](uint32_t layer) {
    if (layer == held) wait_at(fifo);
  };
  return baton::ok_status();
}

Status set_faults(const std::string& text, EngineSeams& seams) {
  BATON_ASSIGN_OR_RETURN(const auto plan, baton::fakes::parse_faults(text));
  baton::fakes::install_faults(plan, seams.node);
  return baton::ok_status();
}

}  // namespace

int main(int argc, char** argv) {
  EngineSeams seams;
  std::vector<char*> others{argv[0]};
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const bool ours = (flag == "--fault" || flag == "--hold") && i + 1 < argc;
    if (!ours) {
      others.push_back(argv[i]);
      continue;
    }
    ++i;
    const Status status = flag == "--fault" ? set_faults(argv[i], seams) : set_hold(argv[i], seams);
    if (!status.ok()) {
      std::fprintf(stderr, "faulty_engine: %s\n", status.message().c_str());
      return 2;
    }
  }
  return baton::reference::reference_engine_main(static_cast<int>(others.size()), others.data(),
                                                 std::move(seams));
}
