"""Rounds of the driver, and that it finds what it is there to find."""

import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent / "e2e"), str(FOLDER.parents[1] / "examples" / "hosts")]

import chaos as driver  # noqa: E402
import checks  # noqa: E402
from baton import HAS_UCX, SANITIZED, Engine, rounds  # noqa: E402
from client import Answer, Metrics  # noqa: E402
from load import Load, Outcome, prompts  # noqa: E402
from plan import FAULTS, TARGETS, plan_round  # noqa: E402

ROUND_LIMIT_S = 60 if SANITIZED else 15
# Channel, seed, rounds: a hundred together.
ROUNDS = [("local", 4, 40), ("tcp", 5, 40)] + ([("ucx", 6, 20)] if HAS_UCX else [])


def chaos(count, *arguments):
    """Runs the driver; (exit code, what it said)."""
    done = subprocess.run([sys.executable, FOLDER / "chaos.py", "--rounds", str(count),
                           *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120 + ROUND_LIMIT_S * count)
    return done.returncode, done.stdout


@pytest.mark.parametrize("channel, seed, share", ROUNDS)
def test_rounds(channel, seed, share):
    count = rounds(share)
    code, said = chaos(count, "--seed", str(seed), "--channel", channel)
    assert code == 0, said
    assert f"rounds {count}," in said and "handoff committed" in said, said


@pytest.mark.parametrize("channel", ["local", "tcp"])
def test_a_node_that_verifies_nothing_is_found(channel):
    code, said = chaos(30, "--seed", "1", "--channel", channel, "--faults", "corrupt",
                       "--broken", "unverified")
    assert code == 1, said
    assert "FAILED; again: tests/chaos/chaos.py --seed 1 --only-round" in said, said
    assert "other tokens" in said and "corrupt decode-" in said, said


def test_a_round_is_decided_by_its_seed_and_number():
    plans = [plan_round(7, number) for number in range(1, 301)]
    assert plans == [plan_round(7, number) for number in range(1, 301)]
    assert plans != [plan_round(8, number) for number in range(1, 301)]
    struck = {(event.action, event.target) for plan in plans for event in plan.events}
    for action in ("kill", "start", "terminate", "stop", "go_on"):
        assert {target for did, target in struck if did == action} == set(TARGETS)
    assert {action for action, _ in struck} >= {"part", "reset", "join", "corrupt"}
    for plan in plans:
        assert 1 <= len({event.fault for event in plan.events}) <= 3
        assert all(0 < event.at < plan.load_s + 0.2 for event in plan.events), plan


@pytest.mark.parametrize("name", list(FAULTS))
def test_only_some_faults(name):
    others = {"kill": "terminate", "restart": "kill"}.get(name, "kill")
    events = [event for number in range(50) for event in plan_round(1, number, (name,)).events]
    assert events and others not in {event.action for event in events}


@pytest.mark.parametrize("failures, played, failed", [(1, [1, 2], 1), (2, [1, 2, 3, 4], 2),
                                                      (9, [1, 2, 3, 4, 5], 2)])
def test_goes_on_with_new_processes_after_a_failed_round(monkeypatch, tmp_path, capsys, failures,
                                                         played, failed):
    """Rounds 2 and 4 fail."""
    started, ended, rounds_played = [], [], []

    class FakeChaos:
        def __init__(self, stage, *_):
            self.stage = stage

        def begin(self):
            return []

        def round(self, number):
            rounds_played.append((number, self.stage))
            return (["wrong"], ["an event"]) if number in (2, 4) else ([], [])

    def start(folder):
        started.append(folder)
        return SimpleNamespace(end=lambda: ended.append(folder) or [])
    monkeypatch.setattr(driver, "own_network", lambda: nullcontext(None))
    monkeypatch.setattr(driver, "Baton", start)
    monkeypatch.setattr(driver, "expected_tokens", lambda baton: [[1]])
    monkeypatch.setattr(driver, "Stage", lambda *_: len(started))
    monkeypatch.setattr(driver, "Chaos", FakeChaos)
    options = SimpleNamespace(seed=3, rounds=5, only_round=None, failures=failures, verbose=False,
                              faults=list(FAULTS), channel="tcp")
    assert driver.play(options, tmp_path, Counter()) == failed
    assert [number for number, _ in rounds_played] == played
    assert all(stage == (1 if number < 3 else 2 if number < 5 else 3)
               for number, stage in rounds_played)
    assert ended == started and len(set(started)) == len(started)
    assert "again: tests/chaos/chaos.py --seed 3 --only-round 2 --channel tcp" in \
        capsys.readouterr().out


def load(**keywords):
    return Load(None, [[1, 2, 3]] * len(prompts()), "test",
                **{"router_fails": False, "patience_s": 0, **keywords})


@pytest.mark.parametrize("status, body, problem", [
    (200, '{"choices": [{"token_ids": [1, 2, 3]}]}', ""),
    (200, '{"choices": [{"token_ids": [1, 2, 4]}]}', "other tokens"),
    (200, '{"choices": [{"token_ids": [1, 2]}]}', "other tokens"),
    (503, '{"error": {"message": "m", "type": "t", "param": null, "code": "c"}}', ""),
    (418, '{"error": {"message": "m", "type": "t", "param": null, "code": "c"}}', "unclear"),
    (503, '{"error": {"message": "", "type": "t", "param": null, "code": "c"}}', "not an answer"),
    (503, "nonsense", "not an answer"),
])
def test_an_answer_is_judged(status, body, problem):
    one = load()
    one.router = SimpleNamespace(complete=lambda *_: one._over.set() or
                                 Answer(status, {}, body.encode()))
    one.expected = [[1, 2, 3]] * len(prompts())
    outcome = Outcome(0, "json", 0.0)
    try:
        one._request(outcome, [0], 3)
    except Exception:
        outcome.problem = "not an answer"
    assert problem in outcome.problem and bool(problem) == bool(outcome.problem)


@pytest.mark.parametrize("error, router_fails, fine", [
    (ConnectionRefusedError(), True, True),
    (ConnectionRefusedError(), False, False),
    (TimeoutError(), True, False),  # it may go away, but never keep silent
])
def test_no_answer_is_fine_only_while_the_router_is_gone(error, router_fails, fine):
    one = load(router_fails=router_fails)

    def fail(*_):
        one._over.set()
        raise error
    one.router = SimpleNamespace(complete=fail, stream_completion=fail)
    one.start()
    one.finish()
    assert one.outcomes and all((outcome.problem == "") == fine for outcome in one.outcomes)


def test_what_takes_too_long_is_found():
    one = load(patience_s=-100)
    clear = Answer(503, {}, b'{"error": {"message": "m", "type": "t", "param": null, "code": "c"}}')

    def answer(*_):
        one._over.set()
        return clear
    one.router = SimpleNamespace(
        complete=answer, stream_completion=lambda *_: SimpleNamespace(status=503, read=answer))
    one.start()
    one.finish()
    assert one.outcomes and all("took" in outcome.problem for outcome in one.outcomes)


QUIET = {"handoffs": [], "host_tier": {"chunks": 2}, "slots": {
    "quarantined": 0, "pools": {
        "retained": {"total": 4, "free": 2, "held": 2, "quarantined": 0},
        "transit": {"total": 4, "free": 4, "held": 0, "quarantined": 0}}}}
GAUGES = ("baton_engine_running_sequences 0\nbaton_engine_waiting_sequences 0\n"
          "baton_engine_free_kv_blocks 9\n")


def quiet_but(**changes):
    debug = {**QUIET, **{key: value for key, value in changes.items() if key in QUIET}}
    slots = debug["slots"]
    pools = {name: {**pool, **changes.get(name, {})} for name, pool in slots["pools"].items()}
    debug["slots"] = {**slots, "quarantined": changes.get("quarantined", 0), "pools": pools}
    text = GAUGES
    for name in ("running_sequences", "waiting_sequences", "free_kv_blocks"):
        if name in changes:
            text += f"baton_engine_{name} {changes[name]}\n"
    engine = SimpleNamespace(debug=lambda: debug, metrics=lambda: Metrics(text), kv_blocks=9)
    engine.unrest = lambda: Engine.unrest(engine)
    return engine


def test_quiet_is_quiet():
    assert checks.not_quiet("decode-1", quiet_but()) == []


@pytest.mark.parametrize("changes", [
    {"handoffs": [{"id": "x"}]},
    {"quarantined": 1},
    {"transit": {"free": 3, "held": 1}},
    {"retained": {"free": 1, "held": 3}},
    {"retained": {"free": 1}},
    {"running_sequences": 1},
    {"waiting_sequences": 1},
    {"free_kv_blocks": -1},
])
def test_what_stays_behind_is_found(changes):
    assert checks.not_quiet("decode-1", quiet_but(**changes))


def growth(before, after):
    return checks.Growth(Metrics(before), Metrics(after))


def test_counters_that_do_not_add_up_are_found():
    said = 'baton_router_requests_total{route="r",code="%d"} %d\n'
    sent = [Outcome(0, "json", 0.0, status=200), Outcome(0, "json", 0.0, status=503)]
    right = growth(said % (200, 5), said % (200, 6) + said % (503, 1))
    assert checks.check_router_metrics(right, sent) == []
    assert checks.check_router_metrics(right, sent[:1])
    assert checks.check_router_metrics(growth(said % (200, 0), said % (200, 2)), sent)

    ended = 'baton_handoffs_total{end="%s",channel="local"} %d\n'
    decoder = SimpleNamespace(ready={"listen": "127.0.0.13:1"})
    told = [Outcome(0, "json", 0.0, decoder="http://127.0.0.13:1", handoff="committed")]
    counted = growth(ended % ("committed", 3), ended % ("committed", 4))
    assert checks.check_decoder_metrics("decode-1", decoder, counted, told) == []
    assert checks.check_decoder_metrics("decode-1", decoder, counted, told * 2)


def test_growing_memory_and_descriptors_are_found():
    usage = {"descriptors": 20, "resident": 10 << 20}
    process = SimpleNamespace(pid=1, open_descriptors=lambda: usage["descriptors"],
                              resident_bytes=lambda: usage["resident"])
    stage, memory = SimpleNamespace(processes={"router": process}), checks.Memory()
    assert checks.check_usage(stage, memory) == []
    assert checks.check_usage(stage, memory) == []
    usage["descriptors"] = 20 + checks.MORE_DESCRIPTORS + 1
    assert "descriptors" in checks.check_usage(stage, memory)[0]
    usage.update(descriptors=20, resident=(11 << 20) + checks.MORE_RESIDENT)
    assert "resident" in checks.check_usage(stage, memory)[0]
