#include "transfer/tcp/staged_buffers.h"

#include <utility>

namespace baton::tcp {

std::shared_ptr<StagedBuffers::Buffer> StagedBuffers::take(size_t bytes) {
  State& state = *state_;
  std::unique_ptr<Buffer> buffer = std::move(state.spare);
  if (buffer && buffer->bytes().size() < bytes) buffer.reset();
  const size_t taken = buffer ? buffer->bytes().size() : bytes;
  if (state.lent != 0 && state.lent + taken > state.max_bytes) {
    state.spare = std::move(buffer);
    state.missed = true;
    return nullptr;
  }
  if (!buffer) buffer = std::make_unique<Buffer>(bytes);
  state.lent += buffer->bytes().size();
  return {buffer.release(), [state = state_](Buffer* back) {
            std::unique_ptr<Buffer> buffer(back);
            state->lent -= buffer->bytes().size();
            if (buffer->bytes().size() <= state->max_bytes) state->spare = std::move(buffer);
            if (std::exchange(state->missed, false) && state->on_free) state->on_free();
          }};
}

}  // namespace baton::tcp
