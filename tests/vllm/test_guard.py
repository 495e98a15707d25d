"""What every hook has around it, and how a log names a request."""

import pytest

from baton.vllm.guard import hook, named


class Side:
    errors = 0

    @hook(lambda: "instead")
    def fails(self):
        raise ValueError

    @hook()
    def works(self, value):
        return value


def test_an_exception_in_a_hook_is_counted_and_not_raised():
    side = Side()
    assert side.works(3) == 3 and side.errors == 0
    assert side.fails() == "instead" and side.errors == 1


@pytest.mark.parametrize("inner, name", [
    ("cmpl-7f-0-1a2b3c4d", "cmpl-7f-0 (in vLLM: cmpl-7f-0-1a2b3c4d)"),
    ("as-the-client-said", "as-the-client-said")])
def test_a_request_is_named_by_the_id_that_its_client_knows(inner, name):
    assert named(inner) == name
