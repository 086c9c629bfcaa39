"""The examples the default reader is trained on, in the prompts of our readers, as one seeded stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import notes
import quoting
import short
from asking import asking
from example import Example, example
from sources import Pool

Make = Callable[[random.Random, Pool], Example]


@dataclass(frozen=True, slots=True)
class Share:
    """How many examples of a kind there are, and what makes one."""

    name: str
    count: int
    make: Make


def shares(mix: str) -> tuple[Share, ...]:
    """The shares of a mix.

    `reader` is all that readers ask, short answers from one paragraph most of all; where a reader would show several, a
    quarter has nothing to answer with. `ask` is for a model that makes up questions.
    """
    counts = dict(zip(_KINDS, _COUNTS[mix], strict=True))
    return tuple(Share(name, counts[name], make) for name, make in _KINDS.items() if counts[name])


def examples(pool: Pool, mix: str, seed: int, scale: float = 1.0) -> Iterator[Example]:
    """A whole mix in random order. The same pool, mix, seed and scale give the same examples."""
    made: list[Example] = []
    for share in shares(mix):
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


_KINDS: dict[str, Make] = {
    "short answer": short.answerable,
    "short answer, one paragraph": short.alone,
    "short answer, not in the text": short.unanswerable,
    "several steps": short.several,
    "altered fact": short.altered,
    "one form, many things": short.competing,
    "yes or no": short.choice,
    "story": short.story,
    "quote": quoting.one,
    "quote, nothing there": quoting.nothing,
    "notes of a part": notes.memory,
    "notes of a part of a story": notes.story,
    "worker's unit": notes.chain,
    "plan of a question": plan,
    "summary": summary,
    "text": text,
    "question made up": asking,
}
_COUNTS = {
    "reader": (
        20000, 34000, 11000, 9000, 2500, 6500, 1800, 4000, 5000, 2400, 6000, 2600, 1800, 800, 900, 1200, 0,
    ),
    "ask": (*[0] * 16, 16000),
}  # fmt: skip
