"""quickstart.sh --tiers: a prefix found again in memory, on NVMe and in S3, and nothing left
behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from baton import BUILD, MODEL, scaled

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.append(str(EXAMPLES))
import quickstart_tiers  # noqa: E402
from asking import Answer  # noqa: E402

needs_gateway = pytest.mark.skipif(quickstart_tiers.why_not() is not None,
                                   reason=str(quickstart_tiers.why_not()))


def run(tmp_path, *arguments):
    (tmp_path / "harbour.txt").write_text("One deck after another, one cart after another. " * 24)
    return subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py", "--model", MODEL, "--build-folder", BUILD,
         "--prompts", tmp_path, "--tiers", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=scaled(120))


@needs_gateway
def test_a_prefix_is_found_in_each_tier(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    rows = re.findall(r"^(\S.*\S) +(\d+) +(\d+) +(\d+\.\d\d) +\d+ +\d+ +(\d+)/(\d+)$", done.stdout,
                      re.MULTILINE)
    assert [row[0].strip() for row in rows] == list(quickstart_tiers.PLACES.values()), done.stdout
    for place, tokens, computed, megabytes, equal, answered in rows:
        assert equal == answered
        if place.startswith("nowhere"):
            assert computed == tokens
        else:
            assert int(computed) < int(tokens) / 2
        assert (float(megabytes) > 0) == (place in ("NVMe", "S3"))
    assert "4 of 4 prompts" in done.stdout


def answer(tokens, transport="nvme", computed=10):
    return Answer(tokens=tokens, usage={"prompt_tokens": 100},
                  handoff={"transport": transport, "prompt_tokens_computed": computed})


@pytest.mark.parametrize("got, good", [
    (answer([1, 2]), True),
    (answer([1, 3]), False),
    (answer([]), False),
    (answer([1, 2], transport="s3"), False),
    (answer([1, 2], computed=50), False),
    (Answer(tokens=[1, 2], usage={"prompt_tokens": 100}), False)])
def test_what_it_takes_to_be_content(got, good):
    assert quickstart_tiers.is_good("nvme", got, answer([1, 2])) == good


def test_it_is_one_engine_on_this_host(tmp_path):
    done = run(tmp_path, "--decoders", "2")
    assert done.returncode == 2 and "--tiers is one engine on this host" in done.stdout
