"""vLLM's own connector tests, with our connector where they mean NIXL's: what passes with vLLM's
NixlConnector passes with ours, but for what upstream/expected.py lists with the reason."""

import re

import pytest

from conftest import model_folder
from upstream import driver, expected


@pytest.fixture(scope="module")
def outcomes():
    return driver.run("baton", model=model_folder())


@pytest.mark.parametrize("test", expected.PASSES)
def test_of_vllm(outcomes, test):
    outcome, text = outcomes.get(test, ("did not run", ""))
    assert outcome == "passed", text


@pytest.mark.parametrize("test", expected.DIFFERS)
def test_of_vllm_that_differs(outcomes, test):
    """It fails, and in no other way than was said."""
    outcome, text = outcomes.get(test, ("did not run", ""))
    assert outcome == "failure" and re.search(expected.DIFFERS[test], text), (outcome, text)


def test_all_that_ran_is_listed(outcomes):
    assert set(outcomes) - {*expected.PASSES, *expected.DIFFERS} == set(expected.CANNOT_RUN)
