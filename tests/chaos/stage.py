"""The processes of a run, and what can be done to them."""

import os
from contextlib import contextmanager

from baton import LAYERS, scaled, wait_for
from hosts import Namespace

from load import BUDGET_S
from plan import DECODERS, ENGINES, PREFILLERS, ROUTER

ADDRESSES = {name: f"127.0.0.{10 + i}" for i, name in enumerate((ROUTER, *ENGINES))}
# UCX connects only to the first address of an interface.
ONE_ADDRESS = dict.fromkeys(ADDRESSES, "127.0.0.1")
# What listens is started again at its port, which nobody may have taken meanwhile for a connection.
LISTENING_PORTS, CONNECTING_PORTS = "20000 31999", "32768 60999"

# Little room and short deadlines: what waits, is short of, and gives up does so within a round.
ENGINE_FLAGS = {"kv_blocks": 160, "max_queue": 32, "heartbeat_ms": 50, "first_contact_ms": 400,
                "record_ms": 600, "accept_ms": 600, "progress_ms": 500, "host_tier": "2MiB",
                "transit": "1MiB", "window": "512KiB"}
OWN_FLAGS = {"prefill-1": {"retain": True}, "prefill-2": {"transient": True},
             "decode-1": {}, "decode-2": {"retain_received": True}}
ROUTER_FLAGS = {"budget_ms": int(BUDGET_S * 1000), "drain_ms": 300, "connect_ms": 200,
                "health_period_ms": 100, "health_deadline_ms": 200}


@contextmanager
def own_network():
    """Gives a network namespace to this thread, and to what it starts, so that packets can be
    dropped in it; or None where that cannot be: then nothing can be cut off."""
    try:
        namespace = Namespace()
        namespace.run("nft", "add", "table", "inet", "chaos")
    except OSError as error:
        print(f"chaos: nobody is cut off, because there are no network namespaces: {error}")
        yield None
        return
    with namespace.entered():
        yield namespace
    namespace.close()


class Stage:
    """Names to processes. A process that comes back has the same addresses and a new log. Confined
    to the thread that made it: what that starts dies with it."""

    def __init__(self, baton, network, options):
        """`options.broken`: a fault of every decoder (tests/fakes/faults.h) that the checks must
        find; `options.channel`: a value of --channel, or None."""
        self.baton = baton
        self.network = network
        self.channel = {} if options.channel is None else {"channel": options.channel}
        self.addresses = ONE_ADDRESS if options.channel == "ucx" else ADDRESSES
        self.broken = options.broken
        self.processes = {}
        self.lives = dict.fromkeys((ROUTER, *ENGINES), 0)
        self.problems = []  # of processes that have ended
        self._apart = {}    # target: its chain in the packet filter
        self._take_ports(LISTENING_PORTS)
        for name in ENGINES:
            self._start(name, wait=False)
        for name in ENGINES:
            self.processes[name].wait_ready()
        self._start(ROUTER)
        self._take_ports(CONNECTING_PORTS)

    @property
    def router(self):
        return self.processes[ROUTER]

    @property
    def engines(self):
        return {name: self.processes[name] for name in ENGINES}

    def _take_ports(self, ports):
        if self.network is not None:
            with self.network.entered(), open("/proc/sys/net/ipv4/ip_local_port_range", "w") as of:
                of.write(ports)

    def _start(self, name, wait=True):
        self.lives[name] += 1
        before = self.processes.get(name)
        log = f"{name}-life-{self.lives[name]}"
        if name == ROUTER:
            listen = before.ready["listen"] if before else f"{self.addresses[name]}:0"
            self.processes[name] = self.baton.router(
                [self.processes[each] for each in PREFILLERS],
                [self.processes[each] for each in DECODERS],
                name=log, listen=listen, **ROUTER_FLAGS)
            return
        addresses = ({each: before.ready[each] for each in ("listen", "node", "node_http")}
                     if before else dict.fromkeys(("listen", "node", "node_http"),
                                                  f"{self.addresses[name]}:0"))
        flags = {**ENGINE_FLAGS, **OWN_FLAGS[name], **self.channel, **addresses}
        program = "reference_engine"
        if name in DECODERS:
            program = "tests/faulty_engine"
            spec = f"file={self._fault_file(name)},seed={self.lives[name]}"
            flags["fault"] = spec if self.broken is None else f"{spec},{self.broken}"
        self.processes[name] = self.baton.engine(name.split("-")[0], name=log, program=program,
                                                 wait=wait, **flags)

    def _fault_file(self, name):
        return self.baton.folder / f"{name}.faults"

    # --- the actions of plan.Event: what they did, in words; "" where there was nothing to do

    def kill(self, target, _=""):
        process = self.processes[target]
        if not process.alive:
            return ""
        process.kill()
        return f"pid {process.pid}"

    def terminate(self, target, _=""):
        process = self.processes[target]
        if not process.alive:
            return ""
        process.resume()
        process.terminate()
        return f"pid {process.pid}"

    def start(self, target, _=""):
        """Once it has ended; it is not started twice."""
        process = self.processes[target]
        if not process.expected_to_end:
            return ""
        self._bury(target)
        self._start(target)
        return f"pid {self.processes[target].pid}"

    def stop(self, target, _=""):
        process = self.processes[target]
        if process.expected_to_end or not process.alive:
            return ""
        process.pause()
        return f"pid {process.pid}"

    def go_on(self, target, _=""):
        process = self.processes[target]
        if not process.alive:
            return ""
        process.resume()
        return f"pid {process.pid}"

    def part(self, target, way):
        """Packets to what it listens on, and their answers, are dropped."""
        return self._filter(target, way, "drop")

    def reset(self, target, way):
        """Whoever sends to what it listens on is told that there is no such connection."""
        return self._filter(target, way, "reject with tcp reset")

    def join(self, target, _=""):
        chain = self._apart.pop(target, None)
        if chain is None:
            return ""
        self.network.run("nft", f"flush chain inet chaos {chain}; delete chain inet chaos {chain}")
        return "joined"

    def corrupt(self, target, spec):
        path = self._fault_file(target)
        new = path.with_suffix(".new")
        new.write_text(spec and f"{spec},layers={LAYERS}")
        os.replace(new, path)
        return "segments" if spec else "no more"

    def _filter(self, target, way, verdict):
        if self.network is None or target in self._apart:
            return ""
        ready = self.processes[target].ready
        address, _, listen = ready["listen"].rpartition(":")
        node, node_http = (ready[each].rpartition(":")[2] for each in ("node", "node_http"))
        # Where all have one address, what UCX listens at is not known and not cut.
        everything = ("1-65535" if self.addresses is ADDRESSES else
                      f"{{ {listen}, {node}, {node_http} }}")
        ports = {"control": f"{{ {node} }}", "http": f"{{ {listen}, {node_http} }}",
                 "all": everything}[way]
        chain = target.replace("-", "_")
        rules = [f"ip daddr {address} tcp dport {ports} {verdict}"]
        if verdict == "drop":
            rules.append(f"ip saddr {address} tcp sport {ports} drop")
        self.network.run("nft", f"add chain inet chaos {chain} "
                         "{ type filter hook input priority 0; }; " +
                         "; ".join(f"add rule inet chaos {chain} {rule}" for rule in rules))
        self._apart[target] = chain
        return way

    # --- between rounds

    def mend(self):
        """Everybody runs, and everybody reaches everybody. What it had to do, in words."""
        done = []
        for target in list(self._apart):
            done.append(f"join {target}")
            self.join(target)
        for target in DECODERS:
            self.corrupt(target, "")
        for target, process in list(self.processes.items()):
            if process.expected_to_end:
                done.append(f"start {target}")
                self.start(target)
            elif process.alive:
                process.resume()
        return done

    def _bury(self, target):
        """Waits for the end of a process that was ended, and looks at how it ended."""
        process = self.processes[target]
        killed = process.exit_code == -9
        if not killed:
            wait_for(lambda: not process.alive, scaled(10), f"{process.name} ends after SIGTERM")
            if process.exit_code != 0:
                self.problems.append(f"{process.name}: exit code {process.exit_code} after SIGTERM")
        self.problems += process.end()
        self.baton.processes.remove(process)

    def take_problems(self):
        """What went wrong with processes since the last call: bad ends, and ends by themselves."""
        problems, self.problems = self.problems, []
        for process in self.processes.values():
            if not process.alive and not process.expected_to_end:
                problems.append(f"{process.name}: ended by itself with {process.exit_code}:\n"
                                f"{process.tail(20)}")
        return problems
