"""vLLM's own tests of connectors, out of its source distribution: the wheel has none of them.

What is fetched is checked against the hash below, what is unpacked is UNPACKED and nothing else,
and none of it is part of this repository.
"""

import hashlib
import os
import tarfile
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

VERSION = "0.32.0"
SHA256 = "d2c957d5eee3d0985012151315ddc62cbe0cd368fc96a5fc3510438d9dddf2ad"
UNPACKED = ("tests/__init__.py", "tests/v1/__init__.py", "tests/v1/kv_connector/__init__.py",
            "tests/v1/kv_connector/unit/",
            # Which one of those imports.
            "tests/v1/attention/utils.py")

SILENCE_S = 60  # of a server that is reached
DOWNLOAD_S = 900  # all of it, 45 MB


class Unreachable(Exception):
    """The package index cannot be reached from here; the text is the network's own."""


def folder(build):
    return build / f"vllm-{VERSION}-tests"


def get(build, lock):
    """The folder with the tests, a part of `build`, fetched if it is not there. `lock()` gives the
    text of a pylock.toml that names vLLM's source distribution, and is asked only then."""
    tests = folder(build)
    if tests.is_dir():
        return tests
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build, prefix=".vllm-tests-") as scratch:
        archive = Path(scratch) / "vllm.tar.gz"
        found = _fetch(_source(lock()), archive)
        if found != SHA256:
            raise RuntimeError(f"the source distribution of vLLM {VERSION} has SHA-256 {found}: "
                               f"expected {SHA256}")
        unpacked = Path(scratch) / tests.name
        _unpack(archive, unpacked)
        os.replace(unpacked, tests)
    return tests


def _source(lock):
    (package,) = tomllib.loads(lock)["packages"]
    if package["version"] != VERSION:
        raise RuntimeError(f"the package index named vLLM {package['version']}, not {VERSION}")
    return package["sdist"]["url"]


def _fetch(url, path):
    """Its SHA-256."""
    digest = hashlib.sha256()
    end = time.monotonic() + DOWNLOAD_S
    try:
        with urllib.request.urlopen(url, timeout=SILENCE_S) as source, open(path, "wb") as out:
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
                if time.monotonic() > end:
                    raise TimeoutError(f"not all came within {DOWNLOAD_S} s")
            if out.tell() < int(source.headers.get("Content-Length") or 0):
                raise ConnectionError(f"it broke off after {out.tell()} bytes")
    except urllib.error.HTTPError as error:
        if error.code < 500:  # it was reached
            raise RuntimeError(f"{url}: {error}") from error
        raise Unreachable(f"{url}: {error}") from error
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise Unreachable(f"{url}: {error}") from error
    return digest.hexdigest()


def _unpack(archive, folder):
    top = f"vllm-{VERSION}/"
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(top)
            if member.isfile() and ".." not in name.split("/") and any(
                    name == each or each.endswith("/") and name.startswith(each)
                    for each in UNPACKED):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
