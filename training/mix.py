"""The examples the default reader is trained on, in the prompts of our readers, as one seeded stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import notes
import quoting
import short
from example import Example, example
from sources import Pool

Make = Callable[[random.Random, Pool], Example]


@dataclass(frozen=True, slots=True)
class Share:
    """How many examples of a kind there are, and what makes one."""

    name: str
    count: int
    make: Make


def examples(pool: Pool, seed: int, scale: float = 1.0) -> Iterator[Example]:
    """The whole mix in random order. The same pool, seed and scale give the same examples."""
    made: list[Example] = []
    for share in SHARES:
        draw = random.Random(f"{seed} {share.name}")
        made += islice(_stream(share.make, draw, pool), round(share.count * scale))
    random.Random(seed).shuffle(made)
    yield from made


def _stream(make: Make, draw: random.Random, pool: Pool) -> Iterator[Example]:
    while True:
        yield make(draw, pool)


def plan(draw: random.Random, pool: Pool) -> Example:
    """A question and the simpler ones it consists of."""
    question = draw.choice(pool.plans)
    return example("plan", question.source, "decompose", "\n".join(question.steps), question=question.text)


_GISTS: Sequence[tuple[str, dict[str, str]]] = (
    ("memory_gist", {"memory": "(nothing yet)"}),
    ("team_gist", {}),
    ("chain_gist", {"memory": "(nothing yet)"}),
    ("memory_gist_plain", {"memory": "(nothing yet)"}),
)


def summary(draw: random.Random, pool: Pool) -> Example:
    """What a text says, in a few sentences."""
    chosen = draw.choice(pool.summaries)
    name, slots = draw.choice(_GISTS)
    words = chosen.text.split(" ")
    part = " ".join(words[:700])
    return example("summary", chosen.source, name, chosen.summary[:600], part=part, question=chosen.task, **slots)


def text(draw: random.Random, pool: Pool) -> Example:
    """Plain text with no prompt, so that the model goes on knowing what text is like."""
    passages = draw.sample(pool.filler, 3)
    joined = "\n\n".join(passage.text for passage in passages)
    return Example("text", "filler", "", "", "", joined[: draw.randrange(400, 2400)])


SHARES = (
    Share("short answer", 24000, short.answerable),
    Share("short answer, one paragraph", 70000, short.alone),
    Share("short answer, not in the text", 14000, short.unanswerable),
    Share("several steps", 12000, short.several),
    Share("altered fact", 4000, short.altered),
    Share("one form, many things", 6500, short.competing),
    Share("yes or no", 1800, short.choice),
    Share("story", 4000, short.story),
    Share("quote", 5000, quoting.one),
    Share("quote, nothing there", 2400, quoting.nothing),
    Share("notes of a part", 6000, notes.memory),
    Share("notes of a part of a story", 2600, notes.story),
    Share("worker's unit", 1800, notes.chain),
    Share("plan of a question", 800, plan),
    Share("summary", 900, summary),
    Share("text", 1200, text),
)
"""All that readers ask, short answers from one paragraph most of all; where a reader would show several, a quarter has
nothing to answer with."""
