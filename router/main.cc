// baton-router: see README.md.
#include <csignal>
#include <cstdio>
#include <cstring>

#include "router/router.h"
#include "transfer/base/log.h"

int main(int argc, char** argv) {
  using namespace baton;
  // Signals are waited for here, so that no other thread is interrupted; blocked before any starts.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto flags = router::parse_router_flags(argc, argv);
  if (const int* code = std::get_if<int>(&flags)) return *code;
  init_logging("baton-router");
  auto router = router::Router::create(std::get<router::RouterConfig>(std::move(flags)));
  if (!router.ok()) {
    log::error("cannot start: {}", router.status().to_string());
    return 1;
  }
  const std::string address = router.value()->address().to_string();
  // For whoever started this: one line, once it can be connected to.
  std::printf("READY {\"listen\": \"%s\"}\n", address.c_str());
  std::fflush(stdout);
  log::info("listening address={}", address);
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  log::info("draining signal={}", strsignal(signal_number));
  // A second signal does not wait for the drain.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  router.value()->stop();
  log::info("stopped");
  return 0;
}
