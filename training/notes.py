"""Notes while a document is read part by part: what a part adds to them, and what must stay in them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from example import Example, example
from forms import planted
from quoting import END, quotation
from short import filler, nearby, ordered_about, scattered
from sources import Pool, Question
from world import story as told

_EMPTY = "(nothing yet)"


class Reading:
    """A document in parts: the text of each and the sentences in it that help, and the question."""

    def __init__(self, source: str, question: str, parts: Sequence[str], helpful: Sequence[Sequence[str]]) -> None:
        self.source = source
        self.question = question
        self.parts = parts
        self.helpful = helpful
        self.left = ""
        """What is still to be found while not all of it is, as a question."""


def memory(draw: random.Random, pool: Pool) -> Example:
    """One turn of the memory reader: what the part says that helps, given the notes so far."""
    return _turn(draw, _reading(draw, pool), plain=0.12)


def story(draw: random.Random, pool: Pool) -> Example:
    """The same on facts whose order counts."""
    return _turn(draw, _world(draw, pool), plain=0.08)


def chain(draw: random.Random, pool: Pool) -> Example:
    """One worker's unit: the facts so far, those of its part, and what is still open."""
    reading = _world(draw, pool) if draw.random() < 0.2 else _reading(draw, pool)
    at = _place(draw, reading)
    before = _lines(draw, reading, at)
    found = [*before, *(line for line in reading.helpful[at] if line not in before)]
    rest = any(reading.helpful[at + 1 :])
    unit = [*found, *([reading.left] if reading.left and rest else [])]
    return example(
        "unit",
        reading.source,
        "chain",
        "\n- ".join(unit),
        memory="\n".join(before) or _EMPTY,
        part=reading.parts[at],
        question=reading.question,
    )


def _turn(draw: random.Random, reading: Reading, plain: float) -> Example:
    at = _place(draw, reading)
    before = _lines(draw, reading, at)
    new = [line for line in reading.helpful[at] if line not in before]
    slots = {"memory": "\n".join(before) or _EMPTY, "part": reading.parts[at], "question": reading.question}
    if draw.random() < plain:
        reply = "\n- ".join([*before, *new]) or _EMPTY
        return example("notes, plain", reading.source, "memory_plain", reply, **slots)
    return example("notes", reading.source, "memory", quotation(*new) if new else END, **slots)


def _place(draw: random.Random, reading: Reading) -> int:
    """A part to read: two of three times one with something in it."""
    telling = [place for place, lines in enumerate(reading.helpful) if lines]
    return draw.choice(telling) if telling and draw.random() < 0.62 else draw.randrange(len(reading.parts))


def _lines(draw: random.Random, reading: Reading, at: int) -> list[str]:
    """The notes before part `at`: what helped so far, and now and then a sentence that does not."""
    lines = [line for lines in reading.helpful[:at] for line in lines]
    if draw.random() < 0.2:
        other = reading.parts[draw.randrange(at)] if at else ""
        stray = [part.strip() for part in other.split(". ") if 20 < len(part) < 200]
        if stray:
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(stray) + ".")
    return list(dict.fromkeys(" ".join(line.split()) for line in lines))


def _reading(draw: random.Random, pool: Pool) -> Reading:
    count = draw.randrange(1, 5)
    size = draw.choice([1, 2, 3, 4, 8, 14])
    way = draw.random()
    if way < 0.25:
        return _forms(draw, pool, count, size)
    if way < 0.55:
        return _hops(draw, pool, size)
    question = draw.choice(pool.short)
    parts = [filler(draw, pool, size) for _ in range(count)]
    for near in nearby(draw, pool, question, 1):
        parts[draw.randrange(count)].append(near)
    at = draw.randrange(count)
    parts[at].insert(draw.randrange(len(parts[at]) + 1), question.passages[0].text)
    if draw.random() < 0.05:
        parts[at] = ordered_about(draw, parts[at])
    helpful = [[question.evidence[0]] if place == at else [] for place in range(count)]
    return Reading(question.source, question.text, ["\n\n".join(part) for part in parts], helpful)


def _forms(draw: random.Random, pool: Pool, count: int, size: int) -> Reading:
    fact = planted(draw, draw.randrange(2, 6))
    parts = [filler(draw, pool, size) for _ in range(count)]
    places = [draw.randrange(count) for _ in fact.sentences]
    for at in range(count):
        lines = [line for line, place in zip(fact.sentences, places, strict=True) if place == at]
        parts[at] = scattered(draw, lines, parts[at])
    helpful = [[fact.sentences[fact.place]] if at == places[fact.place] else [] for at in range(count)]
    return Reading("forms", fact.question, ["\n\n".join(part) for part in parts], helpful)


def _hops(draw: random.Random, pool: Pool, size: int) -> Reading:
    """A question of several steps, its passages dealt to the parts in random order."""
    question: Question = draw.choice(pool.several)
    blocks = [f"{passage.title}\n\n{passage.text}" for passage in question.passages]
    if draw.random() < 0.5:
        blocks += filler(draw, pool, draw.randrange(1, 8))
    draw.shuffle(blocks)
    step = max(1, min(len(blocks), size + 1))
    cut = [blocks[start : start + step] for start in range(0, len(blocks), step)]
    parts = ["\n\n".join(part) for part in cut]
    helpful = [[line for line in question.evidence if line in part] for part in parts]
    reading = Reading(question.source, question.text, parts, helpful)
    reading.left = question.steps[-1] if question.steps and "#" not in question.steps[-1] else ""
    return reading


def _world(draw: random.Random, pool: Pool) -> Reading:
    made = told(draw, draw.choice(("person", "thing", "thing", "before")), draw.randrange(3, 24))
    count = draw.randrange(1, 5)
    cuts = sorted(draw.randrange(len(made.events) + 1) for _ in range(count - 1))
    parts: list[str] = []
    helpful: list[list[str]] = []
    for first, last in zip([0, *cuts], [*cuts, len(made.events)], strict=True):
        lines = [event.sentence for event in made.events[first:last]]
        parts.append("\n\n".join(_in_order(draw, lines, filler(draw, pool, draw.choice([0, 1, 2, 4, 6])))))
        helpful.append([made.events[place].sentence for place in made.helpful(first, last)])
    return Reading("world", made.question, [part or draw.choice(pool.filler).text for part in parts], helpful)


def _in_order(draw: random.Random, lines: Sequence[str], blocks: list[str]) -> list[str]:
    """The lines put into the blocks in their order."""
    if not blocks:
        return [" ".join(lines)]
    places = sorted(draw.randrange(len(blocks)) for _ in lines)
    made: list[str] = []
    for at, block in enumerate(blocks):
        own = [line for line, place in zip(lines, places, strict=True) if place == at]
        pieces = block.split(". ")
        slots = sorted(draw.randrange(len(pieces) + 1) for _ in own)
        text: list[str] = []
        for index in range(len(pieces) + 1):
            text += [line for line, slot in zip(own, slots, strict=True) if slot == index]
            if index < len(pieces):
                ended = pieces[index] if index == len(pieces) - 1 else f"{pieces[index]}."
                text.append(ended)
        made.append(" ".join(piece for piece in text if piece))
    return made
