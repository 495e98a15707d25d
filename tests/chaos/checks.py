"""What must be true once a round is over and mended. Each check returns what is wrong, in words."""

import time
from collections import Counter
from dataclasses import dataclass, field

from baton import SANITIZED, scaled
from plan import DECODERS, ENGINES, PREFILLERS, ROUTER

QUIET_S = scaled(8)          # until nothing lives any more: every deadline together
MORE_DESCRIPTORS = 24        # than in the first quiet of a life: connections that are kept
MORE_RESIDENT = (512 << 20) if SANITIZED else (48 << 20)  # sanitizers keep what was freed


@dataclass
class Usage:
    """Of one process in the quiet after a round."""
    descriptors: int
    resident: int


@dataclass
class Memory:
    """What checks remember from round to round."""
    first: dict = field(default_factory=dict)    # pid: Usage in its first quiet
    counted: dict = field(default_factory=dict)  # pid: Metrics when the round began


def wait_quiet(stage):
    """Waits until no handoff lives, nothing is quarantined, all KV blocks are free, what is held is
    what is retained, and the router has everybody back; what is not so in the end."""
    deadline = time.monotonic() + QUIET_S
    while True:
        noisy = [problem for name in ENGINES for problem in not_quiet(name, stage.processes[name])]
        noisy += router_not_quiet(stage.router)
        if not noisy or time.monotonic() > deadline:
            return [f"after {QUIET_S} s: {problem}" for problem in noisy]
        time.sleep(0.01)


def not_quiet(name, engine):
    try:
        debug, unrest = engine.unrest()
    except OSError as error:
        return [f"{name}: does not answer: {error!r}"]
    problems = [f"{name}: {what}: {found}, not {wanted}"
                for what, (found, wanted) in unrest.items()]
    problems += [f"{name}: lives: {handoff}" for handoff in debug["handoffs"]]
    for pool in debug["slots"]["pools"].values():
        if pool["free"] + pool["held"] + pool["quarantined"] != pool["total"]:
            problems.append(f"{name}: slots do not add up: {pool}")
    return problems


def router_not_quiet(router):
    try:
        metrics = router.metrics()
    except OSError as error:
        return [f"router: does not answer: {error!r}"]
    problems = []
    if metrics.value("baton_router_instance_healthy") != len(ENGINES):
        problems.append(f"router: {metrics.value('baton_router_instance_healthy'):g} of "
                        f"{len(ENGINES)} instances are healthy")
    if metrics.value("baton_router_requests_in_flight"):
        problems.append("router: requests are in flight")
    return problems


def check_outcomes(outcomes):
    return [f"{outcome.how} request for prompt {outcome.number}: {outcome.problem}"
            for outcome in outcomes if outcome.problem]


def check_usage(stage, memory):
    problems = []
    for name, process in stage.processes.items():
        now = Usage(process.open_descriptors(), process.resident_bytes())
        first = memory.first.setdefault(process.pid, now)
        if now.descriptors > first.descriptors + MORE_DESCRIPTORS:
            problems.append(f"{name}: {now.descriptors} descriptors, {first.descriptors} at first")
        if now.resident > first.resident + MORE_RESIDENT:
            problems.append(f"{name}: {now.resident >> 20} MiB resident, {first.resident >> 20} at "
                            "first")
    return problems


def remember_metrics(stage, memory):
    memory.counted = {process.pid: process.metrics() for process in stage.processes.values()}


def check_metrics(stage, memory, outcomes):
    """Counters add up since remember_metrics(): for processes that have lived all the time."""
    grown = {name: Growth(memory.counted[process.pid], process.metrics())
             for name, process in stage.processes.items() if process.pid in memory.counted}
    problems = []
    if ROUTER in grown:
        problems += check_router_metrics(grown[ROUTER], outcomes)
    for name in DECODERS:
        if name in grown:
            problems += check_decoder_metrics(name, stage.processes[name], grown[name], outcomes)
    if all(name in grown for name in ENGINES):
        # The receiver's end is the true one; a sender may not know that it committed.
        sent = sum(grown[name].ends().get("committed", 0) for name in PREFILLERS)
        received = sum(grown[name].ends().get("committed", 0) for name in DECODERS)
        if sent > received:
            problems.append(f"prefillers committed {sent:g} handoffs, decoders {received:g}")
    return problems


class Growth:
    def __init__(self, before, after):
        self.before, self.after = before, after

    def __call__(self, name, **labels):
        # A router that has served nobody yet does not show the family.
        before = self.before.value(name, **labels) if name in self.before.names() else 0
        return self.after.value(name, **labels) - before

    def ends(self):
        """Of handoffs, by how."""
        ends = {labels["end"] for sample, labels, _ in self.after.samples
                if sample == "baton_handoffs_total"}
        return {end: self("baton_handoffs_total", end=end) for end in ends}


def check_router_metrics(grown, outcomes):
    """Every request is counted once, under the code that its client got."""
    problems = []
    counted = grown("baton_router_requests_total")
    if counted != len(outcomes):
        problems.append(f"router: {counted:g} requests counted, {len(outcomes)} sent")
    for code, count in Counter(outcome.status for outcome in outcomes
                               if outcome.how != "leave").items():
        if code and grown("baton_router_requests_total", code=str(code)) < count:
            problems.append(f"router: {count} clients got {code}, it counted "
                            f"{grown('baton_router_requests_total', code=str(code)):g}")
    return problems


def check_decoder_metrics(name, process, grown, outcomes):
    """No end that a client was told is missing in the decoder's count."""
    told = Counter(outcome.handoff for outcome in outcomes
                   if outcome.handoff and process.ready["listen"] in outcome.decoder)
    return [f"{name}: {count} answers say {end}, it counted {grown.ends().get(end, 0):g}"
            for end, count in told.items() if grown.ends().get(end, 0) < count]
