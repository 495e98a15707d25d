"""Prompts of real words, each different from its first token on: the next token depends on all of
it, and no engine finds one in its prefix cache."""

import random

NOUNS = ("anchor barrel bell boat canal chair clock cloud coat drum fence field flute fox glove "
         "hedge horse inn jar kettle lake leaf letter market mill moon oven path pear pier pond "
         "road roof rope sail shed shelf spoon tree wagon wall well").split()
VERBS = "bought chose drew found heard kept left lent lost made met named painted saw sold".split()
NAMES = "Ada Bram Clara Dirk Elsa Finn Greta Hugo Ines Jonas Karla Leo Mara Nils Olga Piet".split()
SENTENCES = (
    "{name} {verb} a {noun} by the {other}.", "Why was the {noun} under the {other}, asked {name}?",
    "Nobody but {name} {verb} the {noun}.", "In year {number} the {noun} stood beside the {other}.",
    "It cost {number} coins, and {name} {verb} it for a {noun}.", "A {noun} is not a {other}.",
    "{name} said: the {noun} {verb} itself!", "Then came {number} of them, each with a {noun}.",
)


def prompt(tokenizer, tokens, seed):
    chance = random.Random(seed)
    text = f"Story {seed}."
    while True:
        for _ in range(tokens // 6 + 4):
            text += " " + chance.choice(SENTENCES).format(
                name=chance.choice(NAMES), verb=chance.choice(VERBS), noun=chance.choice(NOUNS),
                other=chance.choice(NOUNS), number=chance.randrange(2, 2000))
        ids = tokenizer.encode(text).ids
        if len(ids) >= tokens:
            return ids[:tokens]
