// What a question answers: one line for each combination of its parameters, as JSON for programs
// or as a row for people.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "perf/measure.h"

namespace baton::bench {

using Json = nlohmann::ordered_json;

struct Line {
  std::string name;
  Json parameters = Json::object();
  std::optional<uint64_t> bytes;  // moved or read in each sample; none: no rate applies
  std::string reference;          // what it was measured against, in words
  Series ours;
  Series against;     // the reference's
  double at = 0.5;    // the quantile that `ratio` compares
  std::string blame;  // the stage that bounded it; empty: does not apply
  Json also = Json::object();
};

// The fields of DESIGN.md's contract. `ratio` is the median of the reference's times over the
// median of ours: of rates the share that we achieve, of times how near we come; more is better.
Json to_json(const Line& line);

// The same fields for what is counted and not timed: null but for the name, the parameters and
// where and when it was; more may be added.
Json without_times(const std::string& name, const Json& parameters);

class Report {
 public:
  explicit Report(bool json) : json_(json) {}
  // Prints the line at once.
  void add(const Line& line);
  // The same for an object that has the contract's fields; for people a row under a heading.
  void add(const Json& line, const std::string& heading, const std::string& row);

 private:
  const bool json_;
  std::string titled_;  // the name whose heading was printed last
};

// Four significant digits: what is measured is not known better.
double rounded(double value);

// Adds `<name>_GBps` and `share_of_<name>` of a further way to `also`.
void add_also(Line& line, const std::string& name, const Series& series);

}  // namespace baton::bench
