"""Prompts: real text, so that the next token depends on all of it."""

import random

WORDS = """the harbour clock keeper lamp river stone bridge winter letter copper engine garden
mountain signal window sailor market violin shadow lantern orchard ferry tower paper garden silver
rain thunder morning captain village forest candle mirror station railway kitchen doctor teacher
painter island summer coffee bread ocean wheel hammer ladder pocket button ribbon""".split()
VERBS = "carried painted forgot repaired followed measured counted sold remembered watched".split()


def prompt(tokenizer, tokens, seed):
    """Ids of exactly that many tokens, different from the first one on for each seed."""
    chance = random.Random(seed)
    text = f"Chapter {seed}."
    while True:
        for _ in range(max(4, tokens // 8)):
            text += (f" The {chance.choice(WORDS)} {chance.choice(VERBS)} the "
                     f"{chance.choice(WORDS)} near the {chance.choice(WORDS)}.")
        ids = tokenizer.encode(text).ids
        if len(ids) >= tokens:
            return ids[:tokens]
