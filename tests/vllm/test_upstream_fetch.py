"""How vLLM's own tests come here: checked, and nothing but them."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from upstream import sdist

FILES = {"tests/__init__.py": b"", "tests/v1/__init__.py": b"", "tests/v1/test_other.py": b"no",
         "tests/v1/kv_connector/__init__.py": b"",
         "tests/v1/kv_connector/unit/utils.py": b"yes",
         "tests/v1/kv_connector/unit/../../../../../outside.py": b"no",
         "tests/v1/kv_connector/nixl_integration/run.sh": b"no", "setup.py": b"no"}
WANTED = {"tests/__init__.py", "tests/v1/__init__.py", "tests/v1/kv_connector/__init__.py",
          "tests/v1/kv_connector/unit/utils.py"}


def lock(url, version=sdist.VERSION):
    return lambda: (f'[[packages]]\nname = "vllm"\nversion = "{version}"\n'
                    f'sdist = {{ url = "{url}" }}\n')


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The URL of a source distribution whose hash is the expected one."""
    path = tmp_path / "vllm.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"vllm-{sdist.VERSION}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(sdist, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path.as_uri()


def test_only_its_connector_tests_are_unpacked(archive, tmp_path):
    build = tmp_path / "build"
    tests = sdist.get(build, lock(archive))
    found = {str(path.relative_to(tests)) for path in tests.rglob("*") if path.is_file()}
    assert found == WANTED
    assert list(build.iterdir()) == [tests]  # the archive is gone

    def asked_again():
        raise AssertionError("what is there is not fetched again")

    assert sdist.get(build, asked_again) == tests


def test_another_archive_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(sdist, "SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="expected 0000"):
        sdist.get(tmp_path / "build", lock(archive))
    assert list((tmp_path / "build").iterdir()) == []


def test_another_version_is_refused(archive, tmp_path):
    with pytest.raises(RuntimeError, match="named vLLM 0.1"):
        sdist.get(tmp_path / "build", lock(archive, version="0.1"))


def test_a_download_that_breaks_off_is_the_networks_trouble(tmp_path):
    class Half(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/vllm.tar.gz"
        with pytest.raises(sdist.Unreachable, match="broke off after 500 bytes"):
            sdist.get(tmp_path / "build", lock(url))


def test_unreachable_is_told_from_any_other_trouble(tmp_path):
    with pytest.raises(sdist.Unreachable, match="127.0.0.1:1"):
        sdist.get(tmp_path / "build", lock("http://127.0.0.1:1/vllm.tar.gz"))
