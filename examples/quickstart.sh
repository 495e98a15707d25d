#!/usr/bin/env bash
# A real language model's prompts, prefilled by one process and decoded by another, with exactly
# the tokens that one process alone gives. Installs what is missing, gets the model, builds, runs.
#
#   --no-install       do not install missing Debian packages
#   --prefillers N     how many prefillers (default 1)
#   --decoders N       how many decoders (default 1)
#   --channel NAME     auto, local, tcp or ucx: how KV bytes move (default auto)
#   --hosts 2          prefillers and decoders on hosts of their own: network namespaces with a link
#                      between them (needs root)
#   --bandwidth RATE   of that link, e.g. 4gbit
#   --keep             leave it running, to be tried with curl, until Ctrl-C
#   --tiers            instead: one engine, whose prompts are found again in memory, on NVMe and in
#                      S3 (a Ceph gateway of its own), each once what is nearer is gone
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
for argument in "$@"; do
  case "$argument" in
    --no-install) install=no ;;
    --help | -h) install=no ;;
  esac
done
if [ "$install" = yes ]; then
  . examples/install.sh
  install_packages
fi
exec /usr/bin/python3 examples/quickstart.py "$@"
