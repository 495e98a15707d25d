#!/usr/bin/python3
"""Two hosts on one machine: network namespaces with a link between them whose bandwidth, loss and
state can be changed while something is sent over it. For tests, measurements and the quickstart.

    with Network(bandwidth="8gbit") as network:      # this thread is at the desk now
        one, two = network.hosts
        with two.entered():
            server = subprocess.Popen(...)           # runs in two
        socket.create_connection((two.desk, port))   # from the desk, over a link of its own
        network.set_bandwidth("100mbit")

        one ────────────── link ────────────── two       10.78.0.1, .2; fd78::1, ::2
          \\                                    /
           desk ────────── (this thread) ── desk         10.77.1.2, 10.77.2.2; nothing shapes it

The namespaces have no names: they exist as long as this process has them open or something runs in
them, so nothing can be left behind, however this process ends. All addresses are inside them.

From the command line, for two programs of which the second uses the first:

    examples/hosts/hosts.py --bandwidth 4gbit \\
        'serve --listen $HOST_1:9000' 'measure --to $HOST_1:9000'
"""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
TOOLS = ("ip", "tc", "nft")
LINK, DESK = "link0", "desk0"  # the interfaces of a host
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _own_namespace():
    """A descriptor of the namespace that this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """A network namespace of its own, its loopback up; or, of a descriptor, one that is there."""

    def __init__(self, fd=None):
        self.fd = fd
        if fd is not None:
            return
        home = _own_namespace()
        try:
            _checked(_libc.unshare(CLONE_NEWNET), "a network namespace")
            try:
                self.fd = _own_namespace()
            finally:
                _checked(_libc.setns(home, CLONE_NEWNET), "back from a network namespace")
        finally:
            os.close(home)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self):
        """Where ip, nsenter and other processes find it while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def entered(self):
        """This thread is in it: what it opens, the programs and the threads that it starts."""
        before = _own_namespace()
        try:
            _checked(_libc.setns(self.fd, CLONE_NEWNET), "into a network namespace")
            try:
                yield self
            finally:
                _checked(_libc.setns(before, CLONE_NEWNET), "out of a network namespace")
        finally:
            os.close(before)

    def run(self, *words):
        """Runs a tool in it to its end; what it printed."""
        with self.entered():
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Host(Namespace):
    def __init__(self, number):
        super().__init__()
        self.number = number
        self.ipv4 = f"10.78.0.{number}"  # on the link between the hosts
        self.ipv6 = f"fd78::{number}"
        self.desk = f"10.77.{number}.2"  # from the desk
        # Without this a link that goes down takes its IPv6 addresses with it.
        with self.entered(), open("/proc/sys/net/ipv6/conf/all/keep_addr_on_down", "w") as keep:
            keep.write("1")


class Network:
    """Two hosts, the link between them, and the desk. As a context: this thread is at the desk."""

    def __init__(self, bandwidth=None):
        """`bandwidth` as tc writes it ("4gbit"), of each direction; None: what the machine can."""
        self.home = Namespace(_own_namespace())
        self.desk = Namespace()
        self.hosts = (Host(1), Host(2))
        one, two = self.hosts
        one.run("ip", "link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", two.path)
        for host in self.hosts:
            self.desk.run("ip", "link", "add", f"host{host.number}", "type", "veth", "peer", "name",
                          DESK, "netns", host.path)
            self.desk.run("ip", "addr", "add", f"10.77.{host.number}.1/24", "dev",
                          f"host{host.number}")
            self.desk.run("ip", "link", "set", f"host{host.number}", "up")
            host.run("ip", "addr", "add", f"{host.desk}/24", "dev", DESK)
            host.run("ip", "addr", "add", f"{host.ipv4}/24", "dev", LINK)
            host.run("ip", "addr", "add", f"{host.ipv6}/64", "dev", LINK, "nodad")
            host.run("ip", "link", "set", DESK, "up")
            host.run("ip", "link", "set", LINK, "up")
        self._at_desk = None
        if bandwidth is not None:
            self.set_bandwidth(bandwidth)

    def __enter__(self):
        self._at_desk = self.desk.entered()
        self._at_desk.__enter__()
        return self

    def __exit__(self, *_):
        self._at_desk.__exit__(None, None, None)
        self.close()

    def set_bandwidth(self, rate):
        """Of each direction, from now on; None: as fast as it goes."""
        for host in self.hosts:
            shaped = "tbf" in host.run("tc", "qdisc", "show", "dev", LINK)
            if rate is not None:
                host.run("tc", "qdisc", "replace", "dev", LINK, "root", "tbf", "rate", rate,
                         "burst", "256kb", "latency", "50ms")
            elif shaped:
                host.run("tc", "qdisc", "del", "dev", LINK, "root")

    def link_down(self):
        """Nothing crosses; connections are not told."""
        self.hosts[0].run("ip", "link", "set", LINK, "down")

    def link_up(self):
        self.hosts[0].run("ip", "link", "set", LINK, "up")

    def set_loss(self, percent):
        """Of all packets that a host receives over the link (a packet of the kernel's own making
        may be up to 64 KiB); 0: none is lost."""
        for host in self.hosts:
            host.run("nft", "add table inet loss; delete table inet loss")
            if percent == 0:
                continue
            host.run("nft", "add table inet loss; "
                     "add chain inet loss input { type filter hook input priority 0; }; "
                     f"add rule inet loss input iifname {LINK} numgen random mod 1000 < "
                     f"{round(percent * 10)} counter drop")

    def lost_packets(self):
        """Since set_loss()."""
        listed = "".join(host.run("nft", "list", "ruleset") for host in self.hosts)
        words = listed.split()
        return sum(int(words[i + 1]) for i, word in enumerate(words) if word == "packets")

    def close(self):
        for namespace in (*self.hosts, self.desk, self.home):
            namespace.close()


def why_no_hosts():
    """None where hosts can be made; else the reason why not."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"no {', '.join(missing)}"
    try:
        Network("1gbit").close()
    except OSError as error:
        return f"no network namespaces: {error}"
    return None


def started(host, command, env, **keywords):
    with host.entered():
        return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "/bin/sh", "-c",
                                 f"exec {command}"], env=env, **keywords)


def main():
    parser = argparse.ArgumentParser(
        description="Runs FIRST on one host and, once that has printed a line, SECOND on another; "
        "then ends FIRST. Both see $HOST_1 and $HOST_2 (IPv4), $HOST_1_V6 and $HOST_2_V6.")
    parser.add_argument("--bandwidth", help="of the link, in each direction, e.g. 4gbit")
    parser.add_argument("--loss", type=float, default=0, metavar="PERCENT")
    parser.add_argument("first", metavar="FIRST")
    parser.add_argument("second", metavar="SECOND")
    options = parser.parse_args()
    why = why_no_hosts()
    if why:
        sys.exit(f"hosts: {why}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Network(options.bandwidth) as network:
        if options.loss:
            network.set_loss(options.loss)
        env = dict(os.environ)
        for host in network.hosts:
            env |= {f"HOST_{host.number}": host.ipv4, f"HOST_{host.number}_V6": host.ipv6}
        one, two = network.hosts
        programs = [started(one, options.first, env, stdout=subprocess.PIPE)]
        try:
            line = programs[0].stdout.readline()
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            if not line:
                return programs[0].wait() or 1
            programs.append(started(two, options.second, env))
            return programs[1].wait()
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait()


if __name__ == "__main__":
    sys.exit(main())
