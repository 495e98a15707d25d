// For what waits in an io_context for an object that may be gone by then.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <memory>
#include <utility>

namespace baton::s3 {

class Lifeline {
 public:
  Lifeline() : token_(std::make_shared<char>()) {}
  Lifeline(const Lifeline&) = delete;
  Lifeline& operator=(const Lifeline&) = delete;

  // Does what `f` does, and nothing once this is cut or destroyed.
  template <typename F>
  auto guard(F f) const {
    return [watch = watch(), f = std::move(f)](auto&&... arguments) mutable {
      if (!watch.expired()) f(std::forward<decltype(arguments)>(arguments)...);
    };
  }
  std::weak_ptr<char> watch() const { return token_; }
  void cut() { token_.reset(); }

 private:
  std::shared_ptr<char> token_;
};

}  // namespace baton::s3
