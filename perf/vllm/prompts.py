"""Prompts of real words, each different from its first token on: the next token depends on all of
it, and no engine finds one in its prefix cache."""

import random

NOUNS = ("anchor barrel bell boat canal chair clock cloud coat drum fence field flute fox glove "
         "hedge horse inn jar kettle lake leaf letter market mill moon oven path pear pier pond "
         "road roof rope sail shed shelf spoon tree wagon wall well").split()
VERBS = "bought chose drew found heard kept left lent lost made met named painted saw sold".split()


def prompt(tokenizer, tokens, seed):
    chance = random.Random(seed)
    text = f"Story {seed}:"
    while True:
        for _ in range(tokens // 6 + 4):
            text += (f" Somebody {chance.choice(VERBS)} a {chance.choice(NOUNS)} by the "
                     f"{chance.choice(NOUNS)}.")
        ids = tokenizer.encode(text).ids
        if len(ids) >= tokens:
            return ids[:tokens]
