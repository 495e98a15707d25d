"""Whatever comes in, the answer is a 4xx of OpenAI's shape, or a line and exit code 2; and who
asks for something sensible at the same time does not notice."""

import json
import socket
import subprocess

import pytest

from baton import BUILD, MODEL, Baton, command_line, prompt_of, scaled
from client import Answer, split_address

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A router with its engines, and an engine alone: bad input leaves them as they were, so one
    of each is enough for all tests here."""
    stack = Baton(tmp_path_factory.mktemp("shared"))
    cluster = stack.cluster()
    servers = {"router": cluster.router, "alone": stack.alone(), "cluster": cluster}
    yield servers
    cluster.wait_idle()
    problems = stack.end()
    assert not problems, "; ".join(problems)


@pytest.fixture(params=["router", "alone"])
def api(request, shared):
    return shared[request.param].api


def valid(api, **fields):
    return {**api.completion([1, 2, 3], 4), **fields}


def assert_refused(answer, status, *words):
    assert answer.status == status, answer
    message = answer.error["message"].lower()
    assert all(word in message for word in words), message
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("body", [
    b"", b"{", b"{\"prompt\": ", b"nul", b"[1,", b"{\"prompt\": \"a\"} x", b"\x00" * 100,
    b"[" * 100_000, b"{\"a\":" * 50_000,
], ids=["empty", "brace", "cut", "word", "list", "trailing", "zeros", "deep", "deeper"])
def test_malformed_json(api, path, body):
    assert_refused(api.post(path, body), 400)


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("body", [b"", b"{", b"{\"prompt\": \"a\"} x", b"{\"prompt\": \"\xff\"}"],
                         ids=["empty", "brace", "trailing", "bytes"])
def test_a_router_and_an_engine_say_the_same_of_malformed_json(shared, path, body):
    errors = [shared[name].api.post(path, body).error for name in ("router", "alone")]
    assert errors[0] == errors[1]
    assert errors[0]["code"] == "invalid_json"


@pytest.mark.parametrize("body", [b"null", b"[]", b"7", b"\"text\"", b"{}"])
def test_not_a_request(api, body):
    assert_refused(api.post(COMPLETIONS, body), 400)
    assert_refused(api.post(CHAT, body), 400)


@pytest.mark.parametrize("field, value", [
    ("prompt", {"a": 1}), ("prompt", 7), ("prompt", None), ("prompt", True), ("prompt", []),
    ("prompt", ""), ("prompt", [1, "two"]), ("prompt", [-1]), ("prompt", [10**12]),
    ("prompt", [1.5]), ("prompt", [[1], ["x"]]),
    ("model", 7), ("model", []),
    ("max_tokens", "ten"), ("max_tokens", -1), ("max_tokens", 10**18), ("max_tokens", 1e300),
    ("max_tokens", 1.5), ("max_tokens", []),
    ("temperature", "hot"), ("temperature", -0.1), ("temperature", 1e9), ("temperature", {}),
    ("top_p", 0), ("top_p", 1.1), ("top_p", "most"),
    ("stream", "yes"), ("stream", 3),
    ("seed", "x"), ("n", 0), ("n", -3), ("n", 1_000_000), ("n", "two"),
    ("stop", 7), ("stop", [7]), ("stop", ["a"] * 1000),
    ("ignore_eos", "no"), ("return_token_ids", 2),
    ("kv_transfer_params", "x"), ("kv_transfer_params", {"baton": 7}),
], ids=lambda value: json.dumps(value)[:40].replace("/", "_"))
def test_a_wrong_field_is_named(shared, field, value):
    """By the engine; the router knows few fields and passes its answer on."""
    api = shared["alone"].api
    assert_refused(api.post(COMPLETIONS, valid(api, **{field: value})), 400, field)


def test_more_than_the_context_holds(shared):
    api = shared["alone"].api
    assert_refused(api.post(COMPLETIONS, valid(api, max_tokens=1_000_000)), 400, "4096", "1000000")


def test_a_handoff_without_a_proper_id(shared):
    api = shared["cluster"].decoder.api
    params = {"baton": {"handoff": "not-a-uuid", "attempt": 1, "role": "decode"}}
    assert_refused(api.post(COMPLETIONS, valid(api, kv_transfer_params=params)), 400, "not-a-uuid")


@pytest.mark.parametrize("field, value", [
    ("prompt", {"a": 1}), ("prompt", [-1]), ("max_tokens", -1), ("max_tokens", 10**18),
    ("temperature", "hot"), ("stream", "yes"), ("n", 0),
], ids=lambda value: json.dumps(value)[:40])
def test_the_routers_client_gets_the_same(shared, field, value):
    api = shared["router"].api
    assert_refused(api.post(COMPLETIONS, valid(api, **{field: value})), 400, field)


@pytest.mark.parametrize("messages", [
    None, [], "hello", {}, [7], [{}], [{"content": "x"}],
    [{"role": 7, "content": "x"}], [{"role": "user", "content": 7}],
    [{"role": "user", "content": {"a": "b"}}],
], ids=lambda value: json.dumps(value)[:40])
def test_wrong_messages(api, messages):
    body = {"model": api.model, "messages": messages, "max_tokens": 4}
    assert_refused(api.post(CHAT, body), 400, "messages")


def test_unknown_model(api):
    answer = api.post(COMPLETIONS, valid(api, model="no-such-model"))
    assert_refused(answer, 404, "no-such-model")
    assert answer.error["code"] == "model_not_found"


def test_invalid_utf8(api):
    body = json.dumps(valid(api, prompt="@@")).encode()
    for bad in (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"abc\x80"):
        assert_refused(api.post(COMPLETIONS, body.replace(b"@@", bad)), 400)


def test_lone_surrogate_escape(api):
    body = json.dumps(valid(api, prompt="@@")).encode()
    assert_refused(api.post(COMPLETIONS, body.replace(b"@@", b"\\ud800")), 400)


def test_ten_megabytes(api):
    """Refused before or while it is read; the client may not even get to send all of it."""
    body = json.dumps(valid(api, prompt="x" * 10_000_000)).encode()
    answer = send_and_read(api, len(body), body)
    assert answer.status in (400, 413), answer
    assert answer.error["message"]


def test_a_length_that_is_a_lie(api):
    """Announces 10 TB: refused at once, nothing is reserved for it."""
    answer = send_and_read(api, 10**13, b"{")
    assert answer.status in (400, 413), answer


def send_and_read(api, announced, body):
    host, port = split_address(api.address)
    with socket.create_connection((host, port), timeout=scaled(20)) as connection:
        try:
            connection.sendall(f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                               "Content-Type: application/json\r\n"
                               f"Content-Length: {announced}\r\n\r\n".encode() + body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), received[:200]
    return Answer(int(head.split()[1]), {}, body)


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
], ids=["blank", "verb", "tls", "version", "negative", "word", "path", "headers"])
def test_not_http(api, data):
    """An HTTP error or a closed connection, and the server lives."""
    host, port = split_address(api.address)
    with socket.create_connection((host, port), timeout=scaled(20)) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert received == b"" or received.split()[1][:1] in (b"4", b"5"), received[:200]
    assert api.get("/health").status == 200


def test_unknown_paths_and_methods(api):
    for path in ("/", "/v1/nothing", "/v1/completions/7", "/../../etc/passwd"):
        assert api.get(path).status == 404, path
        assert api.get(path).error
    assert api.get(COMPLETIONS).status == 405
    assert api.request("DELETE", "/v1/models").status == 405


def test_others_are_undisturbed(shared, alone):
    """A stream that was begun before the bad requests came ends as it would have."""
    api, prompt = shared["router"].api, prompt_of(300, seed=5)
    expected = alone(prompt, 200)
    stream = api.stream_completion(prompt, 200)
    first = next(stream)
    bad = [b"{", b"\xff", json.dumps(valid(api, prompt=[-1])).encode(), b"[" * 10_000,
           json.dumps(valid(api, max_tokens=10**18)).encode()]
    for body in bad * 4:
        assert 400 <= api.post(COMPLETIONS, body).status < 500
    rest = stream.read()
    assert first["choices"][0]["token_ids"] + rest.tokens == expected


# --- programs that cannot start


def run_to_its_end(program, *arguments):
    done = subprocess.run([BUILD / program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=scaled(20))
    return done.returncode, done.stdout, done.stderr


def assert_one_clear_line(result, *words):
    code, out, error = result
    assert code == 2, result
    assert out == ""
    assert len(error.strip().splitlines()) == 1, error
    assert all(word in error for word in words), error


ENGINE = ["--role", "both", "--listen", "127.0.0.1:0"]


@pytest.mark.parametrize("arguments, words", [
    ([*ENGINE, "--model", MODEL, "--no-such-flag"], ["--no-such-flag"]),
    ([*ENGINE, "--model", MODEL, "--kv-blocks", "many"], ["many"]),
    ([*ENGINE, "--model", MODEL, "--kv-blocks", "-1"], ["kv-blocks"]),
    ([*ENGINE, "--model", MODEL, "--kv-blocks", "0"], ["kv-blocks"]),
    ([*ENGINE, "--model", MODEL, "--block-tokens", "0"], ["block-tokens"]),
    (["--role", "decode", "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0", "--model", MODEL,
      "--block-tokens", "16", "--chunk-tokens", "40"], ["chunk-tokens"]),
    (["--role", "decode", "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0", "--model", MODEL,
      "--retain", "--transient"], ["--retain", "--transient"]),
    (["--role", "decode", "--listen", "127.0.0.1:0", "--node", "nowhere", "--model", MODEL],
     ["nowhere"]),
    ([*ENGINE, "--model", MODEL, "--threads", "0"], ["threads"]),
    ([*ENGINE, "--model", MODEL, "--reuse"], ["--reuse", "--node"]),
    ([*ENGINE, "--model", MODEL, "--node", "127.0.0.1:0", "--nvme", "/data"],
     ["--nvme", "/data", "PATH:SIZE"]),
    ([*ENGINE, "--model", "random:layers=four"], ["layers"]),
    ([*ENGINE, "--model", "random:layer=4"], ["layer", "layers"]),
    ([*ENGINE, "--model", "random:layers=4000000000"], ["layers"]),
    ([*ENGINE, "--model", "random:heads=3,kv_heads=2"], ["heads"]),
    ([*ENGINE, "--model", "no/such/file.gguf"], ["no/such/file.gguf"]),
    (ENGINE, ["--model"]),
    (["--role", "neither", "--model", MODEL, "--listen", "127.0.0.1:0"], ["neither"]),
    (["--role", "both", "--model", MODEL, "--listen", "127.0.0.1"], ["127.0.0.1"]),
    (["--role", "both", "--model", MODEL, "--listen", "127.0.0.1:99999"], ["99999"]),
], ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None)
def test_wrong_engine_flags(arguments, words):
    assert_one_clear_line(run_to_its_end("reference_engine", *arguments), *words)


@pytest.mark.parametrize("arguments, words", [
    ([], ["--memory"]),
    (["--memory", "lots"], ["--memory", "lots"]),
    (["--memory", "1MiB", "--chunk-bytes", "2MiB"], ["1048576", "2097152"]),
    (["--memory", "1MiB", "--node", "nowhere"], ["--node", "nowhere"]),
], ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None)
def test_wrong_store_flags(arguments, words):
    assert_one_clear_line(run_to_its_end("baton-store", *arguments), *words)


LEGS = ["--prefill", "http://127.0.0.1:1=127.0.0.1:2@127.0.0.1:3",
        "--decode", "http://127.0.0.1:4=127.0.0.1:5@127.0.0.1:6"]


@pytest.mark.parametrize("arguments, words", [
    ([*LEGS, "--no-such-flag"], ["--no-such-flag"]),
    ([], ["--prefill"]),
    (LEGS[:2], ["--decode"]),
    (["--prefill", "nonsense", *LEGS[2:]], ["nonsense"]),
    ([*LEGS[:2], "--decode", "http://127.0.0.1:1=@"], ["http://127.0.0.1:1=@"]),
    ([*LEGS, "--policy", "best"], ["best"]),
    ([*LEGS, "--budget-ms", "-1"], ["budget-ms"]),
], ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None)
def test_wrong_router_flags(arguments, words):
    assert_one_clear_line(run_to_its_end("baton-router", *arguments), *words)


def test_an_address_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, error = run_to_its_end("reference_engine", "--role", "both", "--listen", address,
                                          *command_line({"model": MODEL}))
    assert code != 0 and out == "" and address in error, (code, out, error)
    assert code > 0, "ended by a signal"


GGUF_MAGIC = b"GGUF"


@pytest.mark.parametrize("content", [
    b"", b"GG", GGUF_MAGIC, GGUF_MAGIC + b"\x03\x00\x00\x00",
    GGUF_MAGIC + b"\x03\x00\x00\x00" + b"\xff" * 16,              # 2^64-1 tensors and keys
    GGUF_MAGIC + b"\x63\x00\x00\x00" + b"\x00" * 16,              # version 99
    GGUF_MAGIC + b"\x03\x00\x00\x00" + b"\x00" * 8 + b"\x01" + b"\x00" * 7 + b"\xff" * 64,
    b"not a model at all" * 100,
], ids=["empty", "two bytes", "magic", "version", "counts", "future", "key", "text"])
def test_truncated_or_foreign_model(tmp_path, content):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    ended = run_to_its_end("reference_engine", *ENGINE, "--model", path)
    assert_one_clear_line(ended, "model.gguf")


def test_the_real_model_truncated(tmp_path):
    """Only where the quickstart has brought it."""
    models = sorted((BUILD.parent / "models").glob("*.gguf"))
    if not models:
        pytest.skip("no model in models/")
    whole = models[0].read_bytes()
    path = tmp_path / "model.gguf"
    for length in (1000, 100_000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert_one_clear_line(run_to_its_end("reference_engine", *ENGINE, "--model", path),
                              "model.gguf")
