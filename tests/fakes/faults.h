// Faults for tests: decorators that a node's seams (transfer/node.h) put around its channel and
// its copier. Test programs only.
//
// A fault specification is text: "flip=50,lose=20,double=20,reorder=20,late=20,foreign=20,
// layer=20,layers=4,seed=7" (chances of 1,000, on received segments; the model has 4 layers),
// "limit=10" (at most so many faults), and
// "stop=gather|publish|scatter,at=3": the process stops itself (SIGSTOP) inside its third gather,
// publish or verify-and-scatter, once.
//
// "file=PATH": the chances are what that file says (as above)
// when a segment comes, and none while there is no file; it is replaced whole, by a rename.
//
// "unverified": this node is broken: whatever bytes it receives pass for those that were sent. For
// tests of tests: they must find it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "transfer/base/status.h"
#include "transfer/node.h"

namespace baton::fakes {

struct FaultPlan {
  uint32_t flip = 0;     // one bit of the payload
  uint32_t lose = 0;     // never arrives
  uint32_t twice = 0;    // arrives twice ("double")
  uint32_t reorder = 0;  // arrives after the next one
  uint32_t late = 0;     // arrives after eight others
  uint32_t foreign = 0;  // a valid segment, under the number of the same layer of another chunk
  uint32_t layer = 0;    // a valid segment, under the number of another layer of its chunk
  uint32_t layers = 0;   // of the model: needed for "foreign" and "layer"
  uint32_t limit = UINT32_MAX;
  uint64_t seed = 1;
  std::string stop;  // "", "gather", "publish" or "scatter"
  uint32_t at = 1;
  std::string file;
  bool unverified = false;
};

Result<FaultPlan> parse_faults(const std::string& text);

// Sets the seams. What was injected is logged, one line each: "fault injected kind=…".
void install_faults(const FaultPlan& plan, NodeSeams& seams);

}  // namespace baton::fakes
