#!/usr/bin/env bash
# Builds the fuzz targets with clang into build-fuzz and runs them one after the other, each from
# its committed corpus. The last line is "no findings in N targets" or names what was found; exit
# code 1 on a finding, 2 when there was nothing to run.
#
#   --seconds N   for each target; 3600 unless given
#   TARGET…       of codec, control, gguf, http; all unless given
#
# What is learned stays in build-fuzz/corpus/TARGET and is where the next run begins; inputs that
# broke something lie in build-fuzz/findings/ and are run again by
#   build-fuzz/TARGET_fuzz build-fuzz/findings/FILE
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=3600
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) seconds="${2:?--seconds needs a number}"; shift 2 ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *) targets+=("$1"); shift ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=(codec control gguf http)
for target in "${targets[@]}"; do
  [ -d "tests/fuzz/corpus/$target" ] || { echo "no such target: $target" >&2; exit 2; }
done

cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER="${CLANG:-clang++}" -DBATON_FUZZERS=ON \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 > /dev/null
ninja -C build-fuzz "${targets[@]/%/_fuzz}"

mkdir -p build-fuzz/findings
found=()
for target in "${targets[@]}"; do
  mkdir -p "build-fuzz/corpus/$target"
  echo "== $target, $seconds s"
  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "build-fuzz/${target}_fuzz" \
    -max_total_time="$seconds" -max_len=4096 -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="build-fuzz/findings/$target-" \
    "build-fuzz/corpus/$target" "tests/fuzz/corpus/$target" || found+=("$target")
done
if [ ${#found[@]} -gt 0 ]; then
  echo "findings in: ${found[*]} (see build-fuzz/findings)"
  exit 1
fi
echo "no findings in ${#targets[@]} targets"
