#include "perf/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "perf/wire.h"

namespace baton::bench {
namespace {

constexpr Duration kPatience = std::chrono::seconds(30);

}  // namespace

Result<std::unique_ptr<Program>> Program::start(const std::vector<std::string>& words) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Status::from_errno("pipe", errno);
  std::unique_ptr<Program> program(new Program(UniqueFd(ends[0])));
  const UniqueFd theirs(ends[1]);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  program->pid_ = ::fork();
  if (program->pid_ < 0) return Status::from_errno("fork", errno);
  if (program->pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(theirs.get(), STDOUT_FILENO);
    ::dup2(theirs.get(), STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(kNoSuchProgram);
  }
  return program;
}

Program::~Program() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

bool Program::ended(Duration wait) const {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  return wait_readable(process.get(), now() + wait).ok();
}

Result<bool> Program::read_more(TimePoint deadline) {
  BATON_RETURN_IF_ERROR(wait_readable(output_.get(), deadline));
  char buffer[4096];
  const ssize_t got = ::read(output_.get(), buffer, sizeof buffer);
  if (got < 0) return Status::from_errno("read", errno);
  unread_.append(buffer, static_cast<size_t>(got));
  return got != 0;
}

Result<std::pair<std::string, int>> Program::finish() {
  const TimePoint end = now() + kPatience;
  for (bool more = true; more;) {
    BATON_ASSIGN_OR_RETURN(more, read_more(end));
  }
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return std::pair(std::exchange(unread_, {}), WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

Result<std::string> Program::line(Duration wait) {
  const TimePoint end = now() + wait;
  size_t at;
  while ((at = unread_.find('\n')) == std::string::npos) {
    BATON_ASSIGN_OR_RETURN(const bool more, read_more(end));
    if (!more) return Status(Code::kUnavailable, "it has ended: " + unread_.substr(0, 500));
  }
  std::string line = unread_.substr(0, at);
  unread_.erase(0, at + 1);
  return line;
}

}  // namespace baton::bench
