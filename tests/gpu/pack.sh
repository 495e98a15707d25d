#!/usr/bin/env bash
# Packs what the build needs and a GPU machine without network lacks into build-gpu-kit/kit.tar.gz
# (ignored by git): the Debian packages of examples/packages.txt that are libraries, with what they
# need at run time. Run it on Debian 12, where they are installed; tests/gpu/run.sh uses the kit
# where it finds it. A kit holds headers, libraries, CMake's and pkg-config's files for them, and
# pkg-config itself; no compiler, no CMake, no CUDA, no libc. It prints its size and fails above
# 64 MiB.
set -euo pipefail
cd "$(dirname "$0")/../.."

most_bytes=$((64 << 20))
kit=build-gpu-kit
# What every machine with a C++ compiler has, and what only installed programs want.
have='^(libc6.*|libgcc-s1|libstdc\+\+.*|gcc-.*|linux-libc-dev|libcrypt.*|debconf.*|dpkg|perl.*'
have="$have|python3.*|adduser|googletest|rdma-core|catch2)\$"
# What prometheus-cpp's CMake files look for and we do not link: without what it needs itself.
alone='^(civetweb|libcivetweb.*|libcurl.*)$'

# From "# libraries" to "# tests", and what the tests are linked with.
wanted=$(sed -n '/^# libraries/,/^# tests/p' examples/packages.txt | sed 's/#.*//')
wanted="$wanted libgtest-dev libgmock-dev pkg-config"

# The packages and what they depend on, each once.
declare -A seen=()
packages=()
add() {
  local package=$1 needed
  if [ -n "${seen[$package]:-}" ] || [[ $package =~ $have ]]; then return; fi
  seen[$package]=1
  if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
    if [ "${2:-}" = must ]; then
      echo "pack: $package is not installed: run examples/install.sh first" >&2
      exit 1
    fi
    return 0 # an alternative that this machine does without, or a virtual package
  fi
  packages+=("$package")
  if [[ $package =~ $alone ]]; then return; fi
  for needed in $(dpkg-query -W -f '${Depends}\n${Pre-Depends}\n' "$package" |
                  sed 's/([^)]*)//g; s/:any//g; s/[,|]/ /g'); do
    add "$needed"
  done
}
for package in $wanted; do add "$package" must; done

files=$(mktemp)
trap 'rm -f "$files"' EXIT
# Static libraries only where there is no shared one: GoogleTest's.
libraries='^(/usr)?/lib/x86_64-linux-gnu/'
for package in "${packages[@]}"; do dpkg -L "$package" 2>/dev/null || true; done | sort -u |
  grep -E -e "$libraries"'(.*\.so(\.[0-9.]+)?|lib(gtest|gmock)[^/]*\.a|(pkgconfig|cmake)/.*)$' \
    -e '^/usr/include/|^/usr/(lib|share)/cmake/|^/usr/share/pkgconfig/|/share/.*/cmake/' \
    -e '^/usr/bin/(pkg-config|pkgconf|civetweb)$' |
  while read -r file; do
    # Directories come with their files.
    if [ -f "$file" ] || [ -L "$file" ]; then printf '%s\n' "${file#/}"; fi
  done >"$files"

mkdir -p "$kit"
{
  echo "Packed from:"
  for package in "${packages[@]}"; do dpkg-query -W -f '${Package} ${Version}\n' "$package"; done
} >"$kit/packages.txt"
# /lib is a link to /usr/lib: the kit has one root, usr, and no link leads out of it. No compiler
# looks into a folder of the architecture's name there, as it does below /usr/include.
tar --create --gzip --file "$kit/kit.tar.gz" --owner 0 --group 0 --sort name \
  --transform 's,^lib/,usr/lib/,S' --transform 's,^usr/include/x86_64-linux-gnu/,usr/include/,SH' \
  --transform 's,^/\(usr/\)\?lib/x86_64-linux-gnu/,,sRH' --directory / --files-from "$files"
bytes=$(stat -c %s "$kit/kit.tar.gz")
echo "pack: $kit/kit.tar.gz: $bytes bytes, $(wc -l <"$files") files of ${#packages[@]} packages"
if [ "$bytes" -gt "$most_bytes" ]; then
  echo "pack: that is more than $most_bytes bytes: too large to be carried along" >&2
  exit 1
fi
