// baton-bench: measures, each time against a reference in the same run.
#include <cstdio>

#include "perf/bench.h"
#include "transfer/base/log.h"

namespace baton::bench {
namespace {

void add_common(CLI::App& command, Common& common) {
  command.add_flag("--json", common.json, "one JSON object a line on stdout, nothing else");
  command.add_option("--samples", common.samples, "of each way, in turns (the question's own)")
      ->check(CLI::Range(1u, 1'000'000u));
  // Not for people: makes the answer of that check wrong, so that tests see the program say so.
  command.add_option("--corrupt", common.corrupt)->group("");
}

int run(int argc, char** argv) {
  CLI::App app("Measures Baton: every figure against a reference in the same run.", "baton-bench");
  app.require_subcommand(1);
  Common common;
  const std::vector<Question> questions{add_keys(app), add_kernels(app)};
  for (const Question& question : questions) add_common(*question.command, common);
  if (const int code = parse_command_line(app, argc, argv); code >= 0) return code;
  init_logging("baton-bench");
  // Each handoff's end is a line of the log; here only what goes wrong is of interest.
  if (log::default_logger()->level() == log::level::info) log::set_level(log::level::err);
  Report report(common.json);
  Progress progress;
  Run run{common, report, progress};
  for (const Question& question : questions) {
    if (!question.command->parsed()) continue;
    const Status status = question.answer(run);
    if (status.code() == Code::kInvalidArgument) return usage_error(app, status.message());
    if (!status.ok()) {
      std::fprintf(stderr, "baton-bench: %s\n", status.to_string().c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::run(argc, argv); }
