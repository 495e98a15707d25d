// baton-bench: measures, each time against a reference in the same run.
#include <cstdio>

#include "perf/bench.h"
#include "perf/receiver.h"
#include "transfer/base/log.h"

namespace baton::bench {
namespace {

void add_common(const Command& command, Common& common) {
  command.add_flag("--json", common.json, "one JSON object a line on stdout, nothing else");
  command.add_option("--samples", common.samples, "of each way, in turns (the question's own)")
      .range(1u, 1'000'000u);
  // Not for people: makes the answer of that check wrong, so that tests see the program say so.
  command.add_option("--corrupt", common.corrupt).hidden();
}

int failed(const Status& status) {
  std::fprintf(stderr, "baton-bench: %s\n", status.to_string().c_str());
  return 1;
}

// The other process of a measurement.
struct Serving {
  bool serve = false;
  std::string listen = "127.0.0.1:7311";
  bool insecure = false;
  int fd = -1;
  Command receive;
};

void add_serving(const Command& app, Serving& serving) {
  app.add_flag("--serve", serving.serve, "receives for a baton-bench --connect elsewhere");
  app.add_option("--listen", serving.listen, "host:port of --serve (127.0.0.1:7311)");
  app.add_flag("--insecure", serving.insecure,
               "--serve may listen beyond loopback, where anybody can have it measure");
  // Started by this program itself.
  serving.receive = app.add_command("receive").hidden();
  serving.receive.add_option("--fd", serving.fd).required();
}

int serve(const CommandLine& app, const Serving& serving) {
  if (serving.receive.given()) {
    const Status status = serve_driver(UniqueFd(serving.fd));
    return status.ok() ? 0 : failed(status);
  }
  const Result<HostPort> address = HostPort::parse(serving.listen);
  if (!address.ok()) return app.usage_error(address.status().message());
  const Status status = serve_at(*address, serving.insecure);
  return status.code() == Code::kInvalidArgument ? app.usage_error(status.message())
                                                 : failed(status);
}

int ask(const CommandLine& app, const std::vector<Question>& questions, const Common& common) {
  Report report(common.json);
  Progress progress;
  Run run{common, report, progress};
  for (const Question& question : questions) {
    if (!question.command.given()) continue;
    const Status status = question.answer(run);
    if (status.code() == Code::kInvalidArgument) return app.usage_error(status.message());
    if (!status.ok()) return failed(status);
  }
  return 0;
}

int run(int argc, char** argv) {
  CommandLine app("Measures Baton: every figure against a reference in the same run.",
                  "baton-bench");
  app.require_commands(0, 1);
  Common common;
  Serving serving;
  const std::vector<Question> questions{add_handoff(app), add_pipeline(app), add_latency(app),
                                        add_many(app),    add_checksum(app), add_kernels(app),
                                        add_keys(app),    add_trace(app),    add_tier(app)};
  for (const Question& question : questions) add_common(question.command, common);
  add_serving(app, serving);
  if (const int code = app.parse(argc, argv); code >= 0) return code;
  if (!serving.serve && !app.any_command_given())
    return app.usage_error("which question? expected one of its subcommands, or --serve");
  init_logging("baton-bench");
  // Each handoff's end is a line of the log; here only what goes wrong is of interest.
  if (log::writes(log::Level::kInfo) && !log::writes(log::Level::kDebug))
    log::set_level(log::Level::kError);
  try {
    return serving.serve || serving.receive.given() ? serve(app, serving)
                                                    : ask(app, questions, common);
  } catch (const Json::exception& error) {
    return failed(Status(Code::kProtocol, std::string("the other process: ") + error.what()));
  }
}

}  // namespace
}  // namespace baton::bench

int main(int argc, char** argv) { return baton::bench::run(argc, argv); }
