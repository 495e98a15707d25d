// baton_faults: tests/fakes/faults.h for a node that Python makes. Imported after baton, whose
// NodeConfig it changes: the two are compiled from the same headers, by the same compiler.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "tests/fakes/faults.h"

namespace {

void install(baton::NodeConfig& config, const std::string& text) {
  const auto plan = baton::fakes::parse_faults(text);
  if (!plan.ok()) throw std::invalid_argument(plan.status().message());
  baton::fakes::install_faults(*plan, config.seams);
}

}  // namespace

PYBIND11_MODULE(baton_faults, module) {
  module.doc() = "Faults on the way into a node, for tests.";
  module.def("install", &install, pybind11::arg("config"), pybind11::arg("faults"));
}
