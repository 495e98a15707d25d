#!/usr/bin/env bash
# Builds and runs the tests that need a GPU (label gpu). Where there is none they print
# "skipped: no GPU" and count as skipped; without a CUDA toolkit there is nothing to build.
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset release
if ! grep -q '^CMAKE_CUDA_COMPILER:.*=/' build/CMakeCache.txt; then
  echo "skipped: no CUDA toolkit"
  exit 0
fi
cmake --build build --target gpu_test
ctest --test-dir build -L gpu --output-on-failure
