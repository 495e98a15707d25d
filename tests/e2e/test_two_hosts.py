"""Prefiller and decoder on two hosts (examples/hosts): a link that goes down, loses packets,
becomes slow in mid-transfer; addresses where nobody is, and somebody who talks nonsense. Right
tokens or a clear error within the budget, and nothing stays behind."""

import os
import random
import socket
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from baton import KV_BYTES_PER_TOKEN, LAYERS, Cluster, prompt_of, rounds, scaled, wait_for
from client import split_address, together
from faults import (Hold, assert_right_or_clear, in_background, receiving, wait_handed_off,
                    wait_receiving)
from legs import Legs

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "hosts"))
from hosts import Network, why_no_hosts  # noqa: E402

WHY_NOT = why_no_hosts()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no hosts: {WHY_NOT}")

# Beyond loopback a node lets in only who has the token.
ENV = {"BATON_TOKEN": "of-the-tests-of-two-hosts-0123456789abcdef"}
NOTICED_S = 1.0   # 4 missed heartbeats of 200 ms, and what looking costs
DIAL_S = 2.0      # a peer that cannot be reached is given up
STEP = 64         # tokens of a prefill step that can be held
LONG = 700        # tokens: 1.4 MB of KV
TCP_PORT = 7900   # of the decoder's tcp channel, where a test must know it


@pytest.fixture
def network():
    """This test is at the desk; see examples/hosts/hosts.py."""
    with Network() as network:
        yield network


@pytest.fixture
def right(alone, network):
    """The tokens of the engine alone, which is not at the desk but at home."""
    def tokens(*arguments, **fields):
        with network.home.entered():
            return alone(*arguments, **fields)
    return tokens


def node_address(host, family="ipv4", port=0):
    address = getattr(host, family)
    return f"[{address}]:{port}" if family == "ipv6" else f"{address}:{port}"


def engine_on(baton, host, role, family="ipv4", **flags):
    """Its node is on the link; its API and its node's HTTP are for the desk."""
    with host.entered():
        return baton.engine(role, env=ENV, **{
            "listen": f"{host.desk}:0", "node_http": f"{host.desk}:0",
            "node": node_address(host, family), "channel": "auto", **flags})


def apart(baton, network, family="ipv4", prefill=None, decode=None, router=None, **common):
    """The prefiller on host one, the decoder on host two, the router at the desk."""
    engines = [engine_on(baton, host, role, family, wait=False, **{**common, **(own or {})})
               for host, role, own in zip(network.hosts, ("prefill", "decode"), (prefill, decode))]
    for engine in engines:
        engine.wait_ready()
    flags = {"health_period_ms": 200, "budget_ms": 20_000, **(router or {})}
    return Cluster(engines[:1], engines[1:],
                   baton.router(engines[:1], engines[1:], env=ENV, **flags))


def assert_crossed(answer, expected, prompt):
    """Handed off over tcp, every byte of it, at the price of one token."""
    assert answer.tokens == expected
    assert (answer.handoff["end"], answer.handoff["transport"]) == ("committed", "tcp")
    assert answer.handoff["prompt_tokens_computed"] == 1
    assert answer.handoff["bytes"] == len(prompt) * KV_BYTES_PER_TOKEN


def descriptors(cluster):
    return [engine.open_descriptors() for engine in cluster.engines]


def assert_as_before(cluster, right, before=None):
    """Handed off as if nothing had been, and nothing is left open."""
    prompt = prompt_of(90, seed=random.random())
    wait_handed_off(cluster, prompt, right(prompt))
    cluster.wait_idle()
    if before is not None:  # connections that are kept, and those that are on their way out
        wait_for(lambda: all(now <= was + 4 for was, now in zip(before, descriptors(cluster))),
                 scaled(10), "descriptors are closed again")


@pytest.mark.parametrize("mode", ["retain", "transient"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_handed_off_over_tcp(baton, network, right, family, mode):
    cluster = apart(baton, network, family, prefill={mode: True})
    assert cluster.prefiller.ready["node"].startswith("[fd78::1]:" if family == "ipv6" else
                                                      "10.78.0.1:")
    prompts = [prompt_of(length, seed=1) for length in (1, 64, 65, 300, LONG)]
    for prompt in prompts:
        assert_crossed(cluster.complete(prompt), right(prompt), prompt)
    prompts = [prompt_of(100 + 50 * i, seed=2) for i in range(6)]
    expected = [right(prompt) for prompt in prompts]
    answers = together([lambda p=prompt: cluster.complete(p) for prompt in prompts])
    for answer, tokens, prompt in zip(answers, expected, prompts):
        assert_crossed(answer, tokens, prompt)
    cluster.wait_idle()


def test_a_decoder_fetches_from_another_host(baton, network, right):
    cluster = apart(baton, network)
    prompt = prompt_of(256)
    assert_crossed(cluster.complete(prompt), right(prompt), prompt)
    with Legs(cluster.prefiller, cluster.decoder, prompt, flow="fetch") as legs:
        answer = legs.send("decode").result()
    assert_crossed(answer, right(prompt), prompt)


class InMidTransfer:
    """A cluster on two hosts with a request that is held in the middle of its transfer: some
    segments have come, the prefiller's engine stands before it hands over the next."""

    def __init__(self, baton, network, right, tmp_path, **flags):
        self.hold = Hold(tmp_path / "hold")
        self.cluster = apart(baton, network, prefill={
            "program": "tests/faulty_engine", "hold": self.hold.at_layer(LAYERS // 2),
            "prefill_chunk": STEP, "transient": True, **flags.pop("prefill", {})}, **flags)
        self.hold.lift()
        assert_as_before(self.cluster, right)
        self.descriptors = descriptors(self.cluster)

    def request(self, prompt):
        """A context: its future."""
        self.hold.set_again()
        return in_background(lambda: self.cluster.complete(prompt))

    def wait_halfway(self):
        self.hold.wait_held()
        wait_receiving(self.cluster.decoder)
        self.hold.release()
        self.hold.wait_held()
        wait_for(lambda: (receiving(self.cluster.decoder) or {}).get("segments_verified"),
                 scaled(10), "segments have come")


def test_link_down_in_mid_transfer(baton, network, right, tmp_path):
    middle = InMidTransfer(baton, network, right, tmp_path)
    cluster = middle.cluster
    for round_ in range(rounds(4)):
        prompt = prompt_of(LONG, seed=round_)
        expected = right(prompt)
        with middle.request(prompt) as request:
            middle.wait_halfway()
            network.link_down()
            began = time.monotonic()
            wait_for(lambda: not receiving(cluster.decoder), scaled(5), "the decoder noticed")
            noticed = time.monotonic() - began
            middle.hold.lift()
            answer = request.result()
            assert answer.tokens == expected  # it computed what had not come
            assert answer.handoff["end"] == "failed"
            assert noticed < scaled(NOTICED_S) + 1.0
            wait_for(lambda: not cluster.prefiller.handoffs(), scaled(5), "the prefiller noticed")
        # While the link is down the decoder is on its own: nobody waits longer than for a dial.
        for prompt in (prompt_of(100, seed=round_), prompt_of(101, seed=round_)):
            began = time.monotonic()
            answer = cluster.complete(prompt)
            assert answer.tokens == right(prompt)
            assert answer.handoff["prompt_tokens_computed"] == len(prompt)
            assert time.monotonic() - began < scaled(DIAL_S + 1)
        cluster.wait_idle()
        network.link_up()
        assert_as_before(cluster, right, middle.descriptors)


def test_link_down_and_up_at_once(baton, network, right, tmp_path):
    """Shorter than anybody notices: the connections carry on where they stopped."""
    middle = InMidTransfer(baton, network, right, tmp_path, heartbeat_ms=2000, progress_ms=10_000)
    prompt = prompt_of(LONG, seed=1)
    expected = right(prompt)
    with middle.request(prompt) as request:
        middle.wait_halfway()
        network.link_down()
        middle.hold.lift()
        network.link_up()
        assert_crossed(request.result(), expected, prompt)
    assert_as_before(middle.cluster, right, middle.descriptors)


def test_one_percent_of_packets_is_lost(baton, network, right):
    cluster = apart(baton, network, prefill={"transient": True})
    assert_as_before(cluster, right)
    before = descriptors(cluster)
    network.set_loss(1)
    committed, i = 0, 0
    # Until something was lost: under sanitizers the model is small and its packets are few.
    while i < rounds(20) or (network.lost_packets() == 0 and i < 400):
        prompt = prompt_of(300 + 20 * (i % 20), seed=i)
        answer = cluster.complete(prompt)
        assert_right_or_clear(answer, right(prompt))
        i += 1
        committed += answer.status == 200 and answer.handoff["end"] == "committed"
    assert network.lost_packets() > 0
    assert committed > i / 2
    assert cluster.decoder.metrics().value("baton_checksum_failures_total") == 0
    network.set_loss(0)
    assert_as_before(cluster, right, before)


def test_slow_from_the_middle_on(baton, network, right, tmp_path):
    network.set_bandwidth("8gbit")
    middle = InMidTransfer(baton, network, right, tmp_path)
    for round_ in range(rounds(4)):
        prompt = prompt_of(LONG, seed=round_)
        expected = right(prompt)
        with middle.request(prompt) as request:
            middle.wait_halfway()
            network.set_bandwidth("100mbit")
            middle.hold.lift()
            assert_crossed(request.result(), expected, prompt)
        network.set_bandwidth("8gbit")
        assert_as_before(middle.cluster, right, middle.descriptors)


def test_so_slow_that_the_budget_ends_first(baton, network, right, tmp_path):
    budget_s = 3
    middle = InMidTransfer(baton, network, right, tmp_path, router={"budget_ms": budget_s * 1000})
    prompt = prompt_of(LONG)
    expected = right(prompt)
    began = time.monotonic()
    with middle.request(prompt) as request:
        middle.wait_halfway()
        network.set_bandwidth("200kbit")
        middle.hold.lift()
        answer = request.result()
    assert time.monotonic() - began < budget_s + scaled(1)
    assert_right_or_clear(answer, expected)
    network.set_bandwidth(None)
    assert_as_before(middle.cluster, right, middle.descriptors)


def ends_of(engine):
    return [line for line in engine.log.splitlines() if "handoff ended" in line]


@pytest.mark.parametrize("where", ["10.78.0.99:9001", "10.78.0.2:9", "[fd78::99]:9001",
                                   "[fd78::2]:9", "198.51.100.7:9001"])
def test_nobody_is_there(baton, network, right, where):
    """A dead address, a wrong port, an address without a route: said by name, within the dial's
    deadline, and neither side's request suffers."""
    prefiller = engine_on(baton, network.hosts[0], "prefill")
    # Longer than a dial may take, so that the dial says what is wrong.
    decoder = engine_on(baton, network.hosts[1], "decode", first_contact_ms=5000)
    nowhere = SimpleNamespace(ready={"node": where})
    prompt = prompt_of(200)
    before = prefiller.open_descriptors()
    began = time.monotonic()
    with Legs(prefiller, nowhere, prompt) as legs:
        assert legs.send("prefill").result().status == 200
    wait_for(lambda: ends_of(prefiller), scaled(DIAL_S + 1), "the prefiller's handoff ended")
    assert time.monotonic() - began < scaled(DIAL_S + 1)
    assert where in ends_of(prefiller)[0], prefiller.tail()
    began = time.monotonic()
    # A decoder that is to fetch from there.
    other = where.replace("10.78.0.2", "10.78.0.1").replace("fd78::2", "fd78::1")
    with Legs(SimpleNamespace(ready={"node": other}), decoder, prompt, flow="fetch") as legs:
        answer = legs.send("decode").result()
    assert answer.tokens == right(prompt)
    assert answer.handoff["prompt_tokens_computed"] == len(prompt)
    assert time.monotonic() - began < scaled(DIAL_S + 2)
    assert other in answer.handoff["why"], answer
    for engine in (prefiller, decoder):
        engine.wait_idle()
    wait_for(lambda: prefiller.open_descriptors() <= before + 1, scaled(5), "the dial's is closed")


def nonsense():
    rng = random.Random(1)
    yield from (b"\0" * 64, b"\xff" * 64, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for length in (1, 7, 8, 64, 4096):
        yield rng.randbytes(length)


def test_nonsense_on_its_ports(baton, network, right):
    """To the control port and the tcp channel's: those connections end, the others go on."""
    cluster = apart(baton, network, decode={"tcp_port": TCP_PORT})
    assert_as_before(cluster, right)
    before = descriptors(cluster)
    one, two = network.hosts
    ports = (split_address(cluster.decoder.ready["node"])[1], TCP_PORT)
    open_ones = []
    with one.entered():
        for port in ports:
            for words in nonsense():
                connection = socket.create_connection((two.ipv4, port), timeout=scaled(10))
                connection.sendall(words)
                open_ones.append(connection)
            open_ones.append(socket.create_connection((two.ipv4, port), timeout=scaled(10)))
    prompt = prompt_of(LONG)
    assert_crossed(cluster.complete(prompt), right(prompt), prompt)
    for connection in open_ones:  # what says nothing, or not enough, is given up as well
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        connection.close()
    assert_as_before(cluster, right, before)


@pytest.mark.parametrize("says", ["nonsense", "nothing", "goodbye"])
def test_nonsense_from_where_a_peer_should_be(baton, network, right, says):
    one, two = network.hosts
    with two.entered():
        listener = socket.create_server((two.ipv4, 0))
    over = threading.Event()

    def answer():
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if says == "nonsense":
                    connection.sendall(os.urandom(4096))
                if says != "goodbye":
                    connection.settimeout(scaled(10))
                    try:
                        while connection.recv(65536):
                            pass
                    except OSError:
                        pass
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with closing(listener):
        prefiller = engine_on(baton, one, "prefill")
        where = "%s:%d" % listener.getsockname()
        began = time.monotonic()
        with Legs(prefiller, SimpleNamespace(ready={"node": where}), prompt_of(200)) as legs:
            assert legs.send("prefill").result().status == 200
        wait_for(lambda: ends_of(prefiller), scaled(DIAL_S + 2), "the prefiller's handoff ended")
        assert time.monotonic() - began < scaled(DIAL_S + 2)
        assert where in ends_of(prefiller)[0], prefiller.tail()
        prefiller.wait_idle()
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
