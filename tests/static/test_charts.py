"""perf/plot.py, and that the charts in perf/results are what it draws from the lines beside
them."""

import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def line(ours, reference, named="a plain stream", name="handoff", **parameters):
    return {"name": name, "parameters": parameters, "bytes": 1 << 20, "goodput_GBps": ours,
            "reference": named, "reference_GBps": reference, "ratio": ours / reference,
            "median_ms": 1 / ours, "also": {"reference_median_ms": 1 / reference},
            "machine": "a machine", "date": "2026-01-31T00:00:00Z"}


def plot(lines, *arguments, code=0):
    done = subprocess.run([sys.executable, ROOT / "perf/plot.py", "-", *arguments], text=True,
                          input="".join(json.dumps(each) + "\n" for each in lines),
                          capture_output=True, timeout=30)
    assert done.returncode == code, done.stderr
    return done


def drawn(lines, *arguments):
    """(texts, widths of our bars, widths of the references'), without the legend's."""
    root = ElementTree.fromstring(plot(lines, *arguments).stdout)
    widths = {of: [float(rect.get("width")) for rect in root.iter(SVG + "rect")
                   if rect.get("class") == of][:-1] for of in ("ours", "reference")}
    return ([text.text for text in root.iter(SVG + "text")], widths["ours"], widths["reference"])


def test_bars_are_as_long_as_their_figures():
    lines = [line(4, 2, channel="tcp", block_bytes=65536),
             line(1, 3, channel="tcp", block_bytes=4096)]
    texts, ours, reference = drawn(lines, "--by", "block_bytes", "--title", "A < B")
    shares = [width / ours[0] for width in ours + reference]
    assert shares == pytest.approx([1, 0.25, 0.5, 0.75], 1e-2)
    assert {"A < B", "64 KiB", "4 KiB", "2.00", "0.33", "beside a plain stream"} <= set(texts)


def test_times_are_drawn_as_times():
    texts, ours, reference = drawn([line(4, 2, name="latency", channel="tcp")])
    assert reference[0] == pytest.approx(2 * ours[0], 1e-2)
    assert any(text.startswith("ms, less is better") for text in texts)


def test_lines_of_one_reference_stand_under_its_name():
    lines = [line(1, 2, block_bytes=1024), line(1, 2, "another", block_bytes=2048)]
    texts, _, _ = drawn(lines)
    order = ["beside a plain stream", "1 KiB", "beside another", "2 KiB"]
    assert [text for text in texts if text in order] == order


def test_lines_are_chosen():
    lines = [line(1, 2, mode="retained", block_bytes=1024),
             line(1, 2, mode="transient", block_bytes=2048),
             line(1, 2, name="many", mode="transient", block_bytes=4096)]
    texts, ours, _ = drawn(lines, "--only", "handoff", "--where", "mode=transient")
    assert len(ours) == 1 and "2 KiB" in texts


@pytest.mark.parametrize("lines, arguments, said", [
    ([], [], "no such result lines"),
    ([line(1, 2)], ["--where", "mode=none"], "no such result lines"),
    ([line(1, 2)], ["--where", "mode"], "PARAMETER=VALUE"),
    ([line(1, 2), line(1, 2, name="latency")], [], "some lines are rates and some are times"),
])
def test_what_makes_no_chart(lines, arguments, said):
    done = plot(lines, *arguments, code=2)
    assert said in done.stderr and done.stdout == ""


def commands():
    """{chart: words} of the commands in perf/README.md that draw one."""
    text = (ROOT / "perf/README.md").read_text()
    found = re.findall(r"^python3 (perf/plot\.py perf/results/.*) > (perf/results/\S+\.svg)$", text,
                       re.MULTILINE)
    return {chart: shlex.split(words) for words, chart in found}


def test_charts_are_drawn_from_the_lines_beside_them():
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "perf/results").glob("*.svg")} == \
        set(commands())
    for chart, words in commands().items():
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True,
                              timeout=30)
        assert done.stdout == (ROOT / chart).read_text(), f"draw {chart} anew (perf/README.md)"
