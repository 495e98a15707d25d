"""perf/vllm/report.py: what becomes of samples. Never how fast anything was."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "perf/vllm"))

import report  # noqa: E402


@dataclass
class Sample:
    step: float = 1.0
    first: float = 1.0
    between: float = 0.02
    step_cpu: float = 0.9
    hooks: float = 0.001
    others_cpu: float = 0.01


def rounds(count=5, **ways):
    """Each way's factor on times that drift from round to round."""
    return [{(way.replace("_", " "), tokens): Sample(
        step=(1 + r) * factor, first=(1 + r) * factor, between=0.02 * (1 + r) * factor)
        for way, factor in ways.items() for tokens in (600, 1500)} for r in range(count)]


HANDOFFS = {"single": 1, "prefiller, no handoff": 1}


def handoffs(**ways):
    return report.handoff_lines(rounds(**{**HANDOFFS, **ways, "two steps": 1.2}))


def found(lines, measure, variant, reference, tokens=600):
    (one,) = [each for each in lines if (each.measure, each.variant, each.reference, each.tokens) ==
              (measure, variant, reference, tokens)]
    return one


def test_a_rounds_times_are_compared_with_each_other():
    one = found(handoffs(push=1.01), "step", "push", "single")
    assert one.ratios == pytest.approx([1 / 1.01] * 5)  # though the rounds drift


@pytest.mark.parametrize("factor, met", [(1.01, "met"), (1.03, "**missed**")])
def test_a_step_may_be_two_percent_slower(factor, met):
    row = report.as_row(found(handoffs(push=factor), "step", "push", "single"))
    assert row.endswith(f"| 0.98 | {met} |")


@pytest.mark.parametrize("factor, met", [(1.04, "met"), (1.06, "**missed**")])
def test_a_first_token_may_come_five_percent_later(factor, met):
    row = report.as_row(found(handoffs(push=factor), "first", "push", "single"))
    assert row.endswith(f"| 0.952 | {met} |")


def test_whoever_has_no_goal_is_stated():
    row = report.as_row(found(handoffs(push=9), "between", "push", "single"))
    assert row.endswith("|  | stated |")


def test_nixl_is_compared_where_it_is_there():
    lines = handoffs(push=1.0, NIXL=1.5)
    assert found(lines, "first", "push", "NIXL").ratio == pytest.approx(1.5)
    assert not [each for each in handoffs(push=1.0) if "NIXL" in (each.variant, each.reference)]


def test_a_hit_is_compared_with_computing():
    taken = [{("offload", 1537): Sample(first=0.1), ("offload, computed", 1537): Sample(first=3)}]
    (one,) = report.offload_lines(taken)
    assert one.ratio == pytest.approx(30) and report.as_row(one).endswith("| 20 | met |")


def test_lines_have_the_form_of_the_others():
    line = json.loads(report.as_json(handoffs(push=1.01)[0]))
    assert set(line) == {"name", "parameters", "bytes", "goodput_GBps", "reference",
                         "reference_GBps", "ratio", "median_ms", "p95_ms", "p99_ms", "samples",
                         "blame", "also", "machine", "date"}
    assert line["also"]["process_cpu_ratio"] == pytest.approx(1)
    assert line["samples"] == 5 and line["median_ms"] == pytest.approx(3030)
    assert line["also"]["ours_ms"] == pytest.approx([1010, 2020, 3030, 4040, 5050])
