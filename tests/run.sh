#!/usr/bin/env bash
# Builds and runs every test that needs no GPU, in the presets release, asan and tsan, and then those
# with the real vLLM (6 GB from the package index; skipped where that cannot be reached).
# The last line of the output is "N passed, N failed, N skipped"; exit code 1 when a test failed,
# a build failed or no test ran.
#
#   --no-install     do not install missing Debian packages
#   --preset NAME    only this preset (repeatable); vllm: those with the real vLLM
#   --filter REGEX   only tests whose name matches
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
arguments=()
for argument in "$@"; do
  case "$argument" in
    --no-install) install=no ;;
    *) arguments+=("$argument") ;;
  esac
done
if [ "$install" = yes ]; then
  . examples/install.sh
  install_packages
fi
# Debian's python3: the one that has python3-pytest.
exec /usr/bin/python3 tests/run.py ${arguments[@]+"${arguments[@]}"}
