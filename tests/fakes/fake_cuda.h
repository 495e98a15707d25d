// CUDA's runtime and this project's launches as a test can have them without a GPU: link
// fake_cuda.cc and what uses CUDA runs on the host, each stream as a thread of its own, each kernel
// as its body over a grid.
//
// It is stricter than a GPU: device memory cannot be touched by its address but by copies and
// kernels, an asynchronous copy with memory that is not pinned ends the process, and so does one
// whose memory was freed under way, or whose stream was destroyed while it was held.
#pragma once

namespace baton::fakes::fake_cuda {

// After so many more copies and launches the GPU is broken: it does nothing any more, and every
// call that needs it fails, as CUDA's do after a kernel has faulted.
void break_after(int operations);
void mend();

// What is enqueued on any stream waits, until it is let go.
void hold();
void let_go();

}  // namespace baton::fakes::fake_cuda
