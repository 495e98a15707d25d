// The program, as a function: test builds call it with faults to put in.
#pragma once

#include <cstdint>
#include <functional>

#include "transfer/node.h"

namespace baton::reference {

struct EngineSeams {
  NodeSeams node;
  // Called on the engine's thread before a layer is handed to the prefills' sessions; may block.
  std::function<void(uint32_t layer)> before_layer_ready;
};

// Serves until SIGTERM or SIGINT; returns the exit code. To be called once, on the main thread,
// before any other thread exists. Exit codes: 0 ended by a signal; 2 wrong flags or model, said in
// one line on stderr; 1 the machine would not let us (addresses taken, no memory).
int reference_engine_main(int argc, char** argv, EngineSeams seams = {});

}  // namespace baton::reference
