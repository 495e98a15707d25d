"""What makes equal tokens mean something: that the prompt's KV did cross, and how."""

from baton import TRANSPORT, KV_BYTES_PER_TOKEN


def assert_handed_off(answer, expected_tokens, prompt_tokens, crossed_tokens=None, computed=1):
    """The right tokens; committed; the decoder computed `computed` tokens of the prompt, and
    `crossed_tokens` (all, unless given) came over the channel, to the byte."""
    crossed_tokens = prompt_tokens if crossed_tokens is None else crossed_tokens
    assert answer.tokens == expected_tokens
    assert answer.usage["prompt_tokens"] == prompt_tokens
    assert answer.usage["completion_tokens"] == len(expected_tokens)
    assert answer.handoff["end"] == "committed"
    assert answer.handoff["transport"] == (TRANSPORT if crossed_tokens else None)
    assert answer.handoff["prompt_tokens_computed"] == computed
    assert answer.handoff["bytes"] == crossed_tokens * KV_BYTES_PER_TOKEN
    share = answer.handoff["share_of_bound"]
    assert share is None or 0 < share <= 1


def assert_computed(answer, expected_tokens, prompt_tokens, end):
    """The right tokens, and nothing of the prompt came: the handoff ended so (None: there never was
    one)."""
    assert answer.tokens == expected_tokens
    assert answer.handoff.get("end") == end
    assert answer.handoff["prompt_tokens_computed"] == prompt_tokens


def assert_counted(decoders, handoffs, prompt_tokens_computed, crossed_tokens):
    """The decoders' counters, which know nothing of single answers, say the same."""
    metrics = [decoder.metrics() for decoder in decoders]
    count = lambda name, **labels: sum(each.value(name, **labels) for each in metrics)
    assert count("baton_handoffs_total", end="committed", channel=TRANSPORT) == handoffs
    assert count("baton_handoffs_total") == handoffs
    assert count("baton_prompt_tokens_computed_total") == prompt_tokens_computed
    assert count("baton_handoff_bytes_total") == crossed_tokens * KV_BYTES_PER_TOKEN
    assert count("baton_checksum_failures_total") == 0
