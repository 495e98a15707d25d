// Linked into every test: spdlog makes its registry when it is first used, here before there is a
// second thread. Behind it is a function-local static of a library that is not instrumented, so of
// two threads that are the first to log ThreadSanitizer would report a race that is none. Programs
// do the same by init_logging().
#include "transfer/base/log.h"

namespace {

[[maybe_unused]] const bool kLogs = baton::log::writes(baton::log::Level::kError);

}  // namespace
