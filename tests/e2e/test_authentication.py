"""Who is let in: nodes with the same token hand off, others do not, and say why; admin endpoints
ask for it; nothing listens beyond loopback without one."""

import os
import subprocess
import uuid

import pytest

from baton import BUILD, KV_BYTES_PER_TOKEN, MODEL, prompt_of, scaled, wait_for
from client import Api
from legs import Legs

TOKEN = "a-token-of-the-tests-0123456789"


def env(token):
    return {} if token is None else {"BATON_TOKEN": token}


def admin_paths(handoff=None):
    return [("GET", "/metrics"), ("GET", "/debug/handoffs"),
            ("POST", f"/handoffs/{handoff or uuid.uuid4()}/fail")]


def test_the_same_token_hands_off(baton, alone, tmp_path):
    """One side has it in the environment, the other in a file; the router's news get through
    too."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    prefiller = baton.engine("prefill", env={"BATON_TOKEN_FILE": str(file)})
    decoder = baton.engine("decode", env=env(TOKEN))
    router = baton.router([prefiller], [decoder], env=env(TOKEN))
    prompt = prompt_of(200)
    answer = router.complete(prompt)
    assert answer.tokens == alone(prompt)
    assert answer.handoff["prompt_tokens_computed"] == 1
    assert answer.handoff["bytes"] == 200 * KV_BYTES_PER_TOKEN
    decoder.wait_idle()
    for process in (prefiller, decoder, router):
        assert TOKEN not in process.log


@pytest.mark.parametrize("prefill, decode, words", [
    (TOKEN, "another-token-of-the-tests", ("does not verify", "same token")),
    (TOKEN, None, ("has a token", "has none", "BATON_TOKEN")),
    (None, TOKEN, ("has a token", "has none", "BATON_TOKEN")),
])
def test_another_token_or_none(baton, alone, prefill, decode, words):
    """Refused at the handshake, with the reason in both logs, and the decoder computes."""
    prefiller = baton.engine("prefill", env=env(prefill))
    decoder = baton.engine("decode", env=env(decode), first_contact_ms=500)
    prompt = prompt_of(100)
    with Legs(prefiller, decoder, prompt) as legs:
        futures = [legs.send("prefill"), legs.send("decode")]
        assert futures[0].result().status == 200
        answer = futures[1].result()
    assert answer.tokens == alone(prompt)
    assert answer.handoff["prompt_tokens_computed"] == 100
    ended = [line for line in prefiller.log.splitlines() if "handoff ended" in line]
    assert len(ended) == 1 and all(word in ended[0] for word in words), prefiller.tail()
    refused = [line for line in decoder.log.splitlines() if "reason=authentication" in line]
    assert refused and all(word in refused[0] for word in words), decoder.tail()
    for process in (prefiller, decoder):
        assert not any(token in process.log for token in (TOKEN, "another-token-of-the-tests"))
        process.wait_idle()


def test_admin_endpoints_ask_for_the_token(baton, alone):
    decoder = baton.engine("decode", env=env(TOKEN), first_contact_ms=60_000)
    prefiller = baton.engine("prefill", env=env(TOKEN))
    router = baton.router([prefiller], [decoder], env=env(TOKEN))
    node = decoder.ready["node_http"]
    prompt = prompt_of(100)
    with Legs(prefiller, decoder, prompt) as legs:
        waiting = legs.send("decode")
        legs.wait_known(decoder)
        for token, status in ((None, 401), ("another", 401), (TOKEN, 200)):
            api = Api(node, scaled(10), token)
            assert api.get("/health").status == 200
            for method, path in admin_paths(legs.handoff):
                answer = api.request(method, path, b"" if method == "POST" else None)
                assert answer.status == status, (path, answer)
                if status == 401:
                    assert answer.json["error"]["code"] == "unauthenticated"
            if status == 401:
                assert not waiting.done()  # the news were not believed
        assert waiting.result().tokens == alone(prompt)
    for listen in (decoder.ready["listen"], router.ready["listen"]):
        api = Api(listen, scaled(10))
        assert api.get("/health").status == 200
        assert api.get("/v1/models").status == 200
        assert api.get("/metrics").error["type"] == "authentication_error"
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert api.request("GET", "/metrics", headers=bearer).status == 200


def test_baton_ctl_shows_the_token(baton):
    decoder = baton.engine("decode", env=env(TOKEN))

    def ctl(command, token):
        clean = {name: value for name, value in os.environ.items() if name != "BATON_TOKEN"}
        return subprocess.run([BUILD / "baton-ctl", command, decoder.ready["node_http"]],
                              env={**clean, **env(token)}, capture_output=True, text=True,
                              timeout=60)
    assert ctl("health", None).returncode == 0
    for command in ("handoffs", "metrics"):
        assert ctl(command, TOKEN).returncode == 0
        refused = ctl(command, None)
        assert refused.returncode == 1
        assert "BATON_TOKEN" in refused.stderr


def test_the_routers_news_need_its_token(baton, alone):
    """A router without the token cannot tell the decoder's node; the decoder finds out by
    itself."""
    prefiller = baton.engine("prefill", env=env(TOKEN))
    decoder = baton.engine("decode", env=env(TOKEN), first_contact_ms=400)
    router = baton.router([prefiller], [decoder])
    prefiller.kill()
    prompt = prompt_of(80)
    assert router.complete(prompt).tokens == alone(prompt)


ENGINE = ["--model", MODEL, "--listen", "127.0.0.1:0", "--role", "decode"]
ROUTER = ["--prefill", "http://127.0.0.1:1=127.0.0.1:2",
          "--decode", "http://127.0.0.1:3=127.0.0.1:4"]


@pytest.mark.parametrize("program, arguments, says", [
    ("reference_engine", [*ENGINE, "--node", "0.0.0.0:0", "--advertise", "127.0.0.1"], "0.0.0.0:0"),
    ("reference_engine", [*ENGINE, "--node", "[::]:0", "--advertise", "::1"], "[::]:0"),
    ("reference_engine", [*ENGINE, "--node-http", "0.0.0.0:0"], "0.0.0.0:0"),
    ("baton-router", [*ROUTER, "--listen", "0.0.0.0:0"], "0.0.0.0:0"),
])
def test_nothing_starts_beyond_loopback_without_a_token(program, arguments, says):
    ended = subprocess.run([BUILD / program, *arguments], capture_output=True, text=True,
                           timeout=scaled(60))
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert all(word in last for word in (says, "BATON_TOKEN", "--insecure")), ended.stderr


@pytest.mark.parametrize("content, mode, says", [
    (TOKEN + "\n", 0o644, "every user"), ("", 0o600, "empty"), ("two words\n", 0o600, "spaces")])
def test_a_bad_token_file_ends_the_start(tmp_path, content, mode, says):
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    for program, arguments in (("reference_engine", ENGINE), ("baton-router", ROUTER)):
        ended = subprocess.run([BUILD / program, *arguments], capture_output=True, text=True,
                               env={**os.environ, "BATON_TOKEN_FILE": str(file)},
                               timeout=scaled(60))
        assert ended.returncode == 2, ended
        assert says in ended.stderr and str(file) in ended.stderr and TOKEN not in ended.stderr


def test_every_address_needs_one_to_advertise(baton, alone):
    flags = {"node": "0.0.0.0:0", "env": env(TOKEN)}
    refused = baton.engine("decode", wait=False, **flags)
    refused.expected_to_end = True
    assert refused.wait(scaled(30)) == 2
    assert "--advertise" in refused.log
    prefiller = baton.engine("prefill", advertise="127.0.0.1", **flags)
    decoder = baton.engine("decode", advertise="127.0.0.1", **flags)
    assert decoder.ready["node"].startswith("127.0.0.1:")
    prompt = prompt_of(150)
    with Legs(prefiller, decoder, prompt) as legs:
        futures = [legs.send("prefill"), legs.send("decode")]
        answers = [future.result() for future in futures]
    assert answers[1].tokens == alone(prompt)
    assert answers[1].handoff["end"] == "committed"
    wait_for(lambda: decoder.debug()["peers"], scaled(5), "the peer is known")


def test_insecure_is_said_to_be(baton):
    decoder = baton.engine("decode", node="0.0.0.0:0", advertise="127.0.0.1", insecure=True)
    assert "nobody is asked who they are" in decoder.log
