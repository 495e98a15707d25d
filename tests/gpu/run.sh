#!/usr/bin/env bash
# What only a GPU can show: the real launches and the copier against the references, how fast they
# are, and handoffs between engines whose KV lies in a GPU's memory. On a machine without a GPU it
# prints "skipped: no GPU".
#
#   --build-only   builds, GPU or not, and runs nothing
#   --short        fewer sizes and samples
#   --seconds N    of measuring, at most (420)
#
# Needs nvcc, a C++ compiler, CMake 3.25, ninja and python3, and what examples/packages.txt lists as
# libraries; a machine without network takes these from build-gpu-kit/ (tests/gpu/pack.sh), where it
# is there. One table goes to stdout. Where OUT names a folder, the measured lines go to
# $OUT/gpu.jsonl and all output to $OUT/gpu.log. Exit 1 when something failed; what failed is named
# at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

build="build-gpu"
build_only=no
measuring=()
given=("$@")
while [ $# -gt 0 ]; do
  case "$1" in
    --build-only) build_only=yes ;;
    --short) measuring+=("$1") ;;
    --seconds) measuring+=("$1" "${2:?--seconds needs a number}"); shift ;;
    *) echo "run.sh: unknown option $1 (see its first lines)" >&2; exit 2 ;;
  esac
  shift
done
if [ -n "${OUT:-}" ]; then measuring+=(--out "$OUT"); fi

if [ -n "${OUT:-}" ] && [ -z "${BATON_GPU_LOGGED:-}" ]; then
  mkdir -p "$OUT"
  BATON_GPU_LOGGED=1 bash tests/gpu/run.sh ${given[@]+"${given[@]}"} 2>&1 | tee "$OUT/gpu.log"
  exit
fi

say() { printf 'gpu: %s\n' "$*"; }

# A GPU that a driver knows of.
has_gpu() {
  if command -v nvidia-smi >/dev/null; then nvidia-smi -L 2>/dev/null | grep -q '^GPU'; return; fi
  [ -n "$(ls /proc/driver/nvidia/gpus 2>/dev/null)" ] || [ -e /dev/nvidia0 ]
}
if ! has_gpu; then
  if [ $build_only = no ]; then
    echo "skipped: no GPU"
    exit 0
  fi
  say "no GPU here: building only"
fi

# --- tools

if ! command -v nvcc >/dev/null; then
  for home in "${CUDA_HOME:-/nonexistent}" /usr/local/cuda /usr/local/cuda-*; do
    if [ -x "$home/bin/nvcc" ]; then export PATH="$home/bin:$PATH"; break; fi
  done
fi
missing=()
for tool in nvcc g++ cmake ninja python3 tar gzip; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if [ ${#missing[@]} -ne 0 ]; then
  say "missing here: ${missing[*]}" >&2
  exit 1
fi
say "nvcc $(nvcc --version | grep -o 'release [0-9.]*'), $(g++ --version | head -1)," \
  "$(cmake --version | head -1), $(nproc) cores"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || true

# --- the kit

mkdir -p "$build"
configure=(-S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release)
if [ -f build-gpu-kit/kit.tar.gz ]; then
  kit="$PWD/$build/kit"
  if [ ! -f "$kit/.unpacked" ] || [ build-gpu-kit/kit.tar.gz -nt "$kit/.unpacked" ]; then
    rm -rf "$kit"
    mkdir -p "$kit"
    tar --extract --gzip --file build-gpu-kit/kit.tar.gz --directory "$kit"
    # The only ones of CMake's files that name a place on the machine where they were packed.
    sed -i "s,^set(prefix \"/usr\")\$,set(prefix \"$kit/usr\")," \
      "$kit"/usr/lib/x86_64-linux-gnu/cmake/ucx/*.cmake
    touch "$kit/.unpacked"
  fi
  libraries="$kit/usr/lib/x86_64-linux-gnu"
  # The kit's pkg-config, with the kit's library, and the kit's .pc files alone.
  mkdir -p "$kit/bin"
  cat >"$kit/bin/pkg-config" <<WRAPPER
#!/bin/sh
export PKG_CONFIG_LIBDIR='$libraries/pkgconfig:$kit/usr/share/pkgconfig'
export PKG_CONFIG_SYSROOT_DIR='$kit'
LD_LIBRARY_PATH='$libraries' exec '$kit/usr/bin/pkgconf' "\$@"
WRAPPER
  chmod +x "$kit/bin/pkg-config"
  # RPATH, not RUNPATH: what the libraries need of each other is in the kit as well.
  configure+=(-DCMAKE_PREFIX_PATH="$kit/usr" -DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu
    -DCMAKE_POLICY_VERSION_MINIMUM=3.5 -DPKG_CONFIG_EXECUTABLE="$kit/bin/pkg-config"
    -DOPENSSL_ROOT_DIR="$kit/usr" -DBoost_NO_SYSTEM_PATHS=ON -DBOOST_ROOT="$kit/usr"
    -DCMAKE_BUILD_RPATH="$libraries"
    "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags -Wl,-rpath-link,$libraries")
  say "libraries from build-gpu-kit/kit.tar.gz"
else
  say "libraries from this system (no build-gpu-kit/kit.tar.gz)"
fi

# --- build

# For the GPU that is here, and for Hopper where none is.
architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
  head -1 | tr -d '. ' || true)
[[ "$architecture" =~ ^[0-9]+$ ]] || architecture=90
configure+=(-DCMAKE_CUDA_ARCHITECTURES="$architecture")
log="$build/build.log"
say "configuring and building for sm_$architecture ($log)"
SECONDS=0
if ! { cmake "${configure[@]}" && cmake --build "$build" --target gpu_test baton-bench; } \
    >"$log" 2>&1; then
  grep -E -m 20 'error|Error|FAILED|not found|Could NOT' "$log" >&2 || true
  tail -n 40 "$log" >&2
  say "the build failed" >&2
  exit 1
fi
grep '^baton: ' "$log" || true
if ! grep -q '^CMAKE_CUDA_COMPILER:.*=/' "$build/CMakeCache.txt"; then
  say "CMake found no working CUDA compiler: see $log" >&2
  exit 1
fi
say "built in $SECONDS s"
if [ $build_only = yes ]; then exit 0; fi

exec python3 tests/gpu/measure.py "$build" ${measuring[@]+"${measuring[@]}"}
