"""Quoting: the sentence of a passage that answers, character for character, or none."""

from __future__ import annotations

import random

from example import Example, example
from forms import planted
from short import filler, nearby, ordered_about, scattered
from sources import Pool, Question

END = '"'
"""What closes the quotation that the prompts begin; alone, it quotes nothing."""


def quotation(*sentences: str) -> str:
    """The reply that quotes these sentences, a line each."""
    return "\n".join(" ".join(sentence.split()) for sentence in sentences) + END


def one(draw: random.Random, pool: Pool) -> Example:
    """A passage or a member's part with the sentence that answers in it."""
    way = draw.random()
    if way < 0.12:
        fact = planted(draw, draw.randrange(2, 6))
        blocks = scattered(draw, fact.sentences, filler(draw, pool, draw.choice([1, 1, 2, 6])))
        return _asked(draw, "forms", blocks, fact.question, quotation(fact.sentences[fact.place]))
    if way < 0.25:
        question = draw.choice(pool.several)
        place = draw.choice(question.gold)
        text = question.passages[place].text
        held = [sentence for sentence in question.evidence if sentence in text]
        if held:
            return _asked(draw, question.source, [text], question.text, quotation(*held))
    question = draw.choice(pool.quoting if way < 0.4 else pool.short)
    blocks = _around(draw, pool, question)
    if draw.random() < 0.04:
        blocks = ordered_about(draw, blocks)
    return _asked(draw, question.source, blocks, question.text, quotation(question.evidence[0]))


def nothing(draw: random.Random, pool: Pool) -> Example:
    """A passage or part in which no sentence answers."""
    way = draw.random()
    if way < 0.3:
        question = draw.choice(pool.nowhere)
        blocks = [question.passages[0].text]
    elif way < 0.4:
        fact = planted(draw, draw.randrange(2, 6))
        lines = [line for place, line in enumerate(fact.sentences) if place != fact.place]
        blocks = scattered(draw, lines, filler(draw, pool, draw.choice([1, 2, 6])))
        return _asked(draw, "forms", blocks, fact.question, END)
    else:
        question = draw.choice(pool.short)
        blocks = nearby(draw, pool, question, draw.choice([1, 1, 2, 5])) or filler(draw, pool, 1)
    return _asked(draw, question.source, blocks, question.text, END)


def _around(draw: random.Random, pool: Pool, question: Question) -> list[str]:
    others = nearby(draw, pool, question, draw.choice([0, 0, 0, 1, 2, 5]))
    others.insert(draw.randrange(len(others) + 1), question.passages[0].text)
    return others


def _asked(draw: random.Random, source: str, blocks: list[str], question: str, reply: str) -> Example:
    text = "\n\n".join(blocks)
    name, slot = draw.choice((("extract", "passage"), ("team_part", "part")))
    return example("quote", source, name, reply, question=question, **{slot: text})
