"""An engine that preempts: what is being handed over of that request ends, and nothing else."""

import uuid

from handed_off import assert_idle, counted, request
from prompts import prompt

# Two of them need more than the nine blocks of 128.
TOKENS = 650


def preemptions(engine):
    return counted(engine, "num_preemptions")


def asked_for(tokenizer, **fields):
    return [request(prompt(tokenizer, TOKENS, seed=9300 + i), **fields) for i in range(2)]


def test_requests_that_offload(small, tokenizer):
    asked = asked_for(tokenizer)
    right = [small.generate([one])[0]["tokens"] for one in asked]
    before = preemptions(small)
    answers = small.generate([{**one, "salt": f"again {i}"} for i, one in enumerate(asked)])
    assert preemptions(small) > before
    assert [answer["tokens"] for answer in answers] == right
    assert_idle(small)


def test_requests_that_are_held_for_a_decoder(small, tokenizer):
    asked = asked_for(tokenizer, max_tokens=1)
    right = [small.generate([one])[0]["tokens"] for one in asked]
    before = preemptions(small)
    answers = small.generate([{**one, "salt": str(uuid.uuid4()),
                               "params": {"do_remote_decode": True}} for one in asked])
    assert preemptions(small) > before
    assert [answer["tokens"] for answer in answers] == right
    # What was preempted is held for nobody, and its answer does not say that it was.
    assert sorted(answer["params"] is None for answer in answers) == [False, True]
    assert_idle(small)
