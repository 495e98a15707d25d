"""examples/hosts: the link between two hosts does what it is told, and nothing of it stays."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from baton import scaled, wait_for

HOSTS = Path(__file__).resolve().parents[2] / "examples" / "hosts"
sys.path.append(str(HOSTS))
from hosts import LINK, Network, why_no_hosts  # noqa: E402

WHY_NOT = why_no_hosts()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no hosts: {WHY_NOT}")


@pytest.fixture
def network():
    with Network() as network:
        yield network


class Sent:
    """A connection from host one to an address of host two, and what has come out of it."""

    def __init__(self, network, address=None):
        one, two = network.hosts
        address = address or two.ipv4
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with two.entered():
            listener = socket.create_server((address, 0), family=family)
        with closing(listener), one.entered():
            self.source = socket.create_connection(listener.getsockname()[:2], timeout=scaled(30))
            self.sink, _ = listener.accept()
        self.received = 0
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self):
        while data := self.sink.recv(1 << 20):
            self.received += len(data)

    def send(self, size):
        self.source.sendall(bytes(size))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.source.close()
        self._thread.join()
        self.sink.close()


@pytest.mark.parametrize("address", ["ipv4", "ipv6"])
def test_bandwidth_changes_while_something_is_sent(network, address):
    network.set_bandwidth("8gbit")
    with Sent(network, getattr(network.hosts[1], address)) as sent:
        sent.send(4_000_000)
        wait_for(lambda: sent.received == 4_000_000, scaled(10), "all is there")
        network.set_bandwidth("20mbit")
        began = time.monotonic()
        sent.send(2_000_000)
        wait_for(lambda: sent.received == 6_000_000, scaled(30), "the rest is there too")
        # 0.8 s at that rate; what the shaper lets through at once is 256 KB.
        assert time.monotonic() - began > 0.5
        network.set_bandwidth(None)
        assert "tbf" not in network.hosts[0].run("tc", "qdisc", "show", "dev", LINK)


def test_link_down_and_up(network):
    with Sent(network) as sent:
        sent.send(1000)
        wait_for(lambda: sent.received == 1000, scaled(10), "the link carries")
        network.link_down()
        sent.send(1000)
        one, two = network.hosts
        with one.entered(), pytest.raises(OSError):
            socket.create_connection((two.ipv4, 9), timeout=0.2)
        assert sent.received == 1000
        network.link_up()
        wait_for(lambda: sent.received == 2000, scaled(20), "it carries again")
    with Sent(network, network.hosts[1].ipv6) as sent:  # its IPv6 addresses are back as well
        sent.send(1000)
        wait_for(lambda: sent.received == 1000, scaled(10), "IPv6 does")


def test_packets_are_lost_and_tcp_makes_up_for_it(network):
    network.set_loss(1)
    with Sent(network) as sent:
        for _ in range(40):
            sent.send(500_000)
        wait_for(lambda: sent.received == 20_000_000, scaled(60), "all is there")
    assert network.lost_packets() > 0
    network.set_loss(0)
    assert network.lost_packets() == 0


def test_the_desk_reaches_both_hosts_past_the_link(network):
    network.link_down()
    for host in network.hosts:
        with host.entered():
            listener = socket.create_server((host.desk, 0))
        with closing(listener):
            socket.create_connection(listener.getsockname(), timeout=scaled(5)).close()


def test_hosts_are_apart(network):
    """Neither loopback nor abstract Unix sockets are shared, and this machine has no such
    address."""
    one, two = network.hosts
    with one.entered():
        listener = socket.create_server(("127.0.0.1", 0))
        local = socket.socket(socket.AF_UNIX)
        local.bind("\0baton-test-hosts")
        local.listen()
    with closing(listener), closing(local):
        for place in (two, network.home):
            with place.entered():
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(listener.getsockname(), timeout=1)
                with socket.socket(socket.AF_UNIX) as other, pytest.raises(ConnectionRefusedError):
                    other.connect("\0baton-test-hosts")
    assert "10.78." not in network.home.run("ip", "addr")


def namespaces_in_use():
    used = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            used.add(os.readlink(process / "ns/net"))
        except OSError:
            continue
    return used


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_stays(number):
    """However the program ends, no program of its hosts runs on, and without one they are gone."""
    program = subprocess.Popen(
        [sys.executable, HOSTS / "hosts.py", "--bandwidth", "1gbit",
         "setpriv --pdeathsig KILL sh -c 'readlink /proc/self/ns/net; exec sleep 1000'",
         "sleep 1000"], stdout=subprocess.PIPE, text=True)
    inside = program.stdout.readline().strip()
    assert inside in namespaces_in_use()
    program.send_signal(number)
    program.wait(scaled(20))
    wait_for(lambda: inside not in namespaces_in_use(), scaled(20), "nothing runs on that host")
    program.stdout.close()


def test_the_second_program_reaches_the_first():
    serve = ("%s -uc \"import os, socket; s = socket.create_server((os.environ['HOST_1'], 0)); "
             "print(s.getsockname()[1]); s.accept()\"" % sys.executable)
    # The port is only known to the first: reaching its host is enough.
    reach = ("%s -c \"import os, socket; socket.create_connection((os.environ['HOST_1'], 9), 5)\""
             % sys.executable)
    done = subprocess.run([sys.executable, HOSTS / "hosts.py", serve, reach], timeout=scaled(30),
                          capture_output=True, text=True)
    assert done.returncode == 1 and "ConnectionRefusedError" in done.stderr, done
    assert int(done.stdout) > 0
