"""Made-up pages with questions whose answering sentence is known, to try a model's attention on.

Two questions of three are worded unlike the sentence that answers them, while other sentences of the page say the
same of someone else in the question's words, and more of the same one: words in common do not find the answer.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longleaf.engine.errors import EngineFailed
from longleaf.engine.needle_facts import Kind, filler, kinds, other_kinds

_OWNERS, _FILLER, _ASKED = 7, 10, 2
_SAME_WORDS = 1 / 3


@dataclass(frozen=True, slots=True)
class Needle:
    """A question, and the numbers of the units of its page that answer it."""

    question: str
    units: frozenset[int]


@dataclass(frozen=True, slots=True)
class Page:
    """Sentences in reading order, and questions about them."""

    units: tuple[str, ...]
    needles: tuple[Needle, ...]


def pages(seed: int = 0, *, held_out: bool = False) -> Iterator[Page]:
    """Pages without end, of about 45 sentences (700 tokens) and ten questions each.

    Those with `held_out` tell of other things, in other words, than those without.
    """
    draw = random.Random(f"{seed} {held_out}")
    chosen = other_kinds() if held_out else kinds()
    while True:
        for kind in chosen:
            yield _page(draw, kind)


def read_pages(file: Path) -> list[Page]:
    """Pages of real questions from JSON lines with `question`, `context` and `answer`.

    `context` is a text, which is cut at the ends of its sentences, or a list of units; `answer` is what the right
    unit holds, or a list of such. Lines with the same context make one page. Raises `EngineFailed`, naming the line.
    """
    found: dict[tuple[str, ...], list[Needle]] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineFailed(f"the questions in {file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            units, needle = _question(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineFailed(
                f"{file}, line {number}: {error!r}; a line is a JSON object with question, context and answer"
            ) from error
        found.setdefault(units, []).append(needle)
    return [Page(units, tuple(needles)) for units, needles in found.items()]


def _question(line: dict[str, Any]) -> tuple[tuple[str, ...], Needle]:
    context = line["context"]
    units = tuple(re.split(r"(?<=[.!?])\s+", context.strip()) if isinstance(context, str) else map(str, context))
    answers = [line["answer"]] if isinstance(line["answer"], str) else line["answer"]
    right = frozenset(index for index, unit in enumerate(units) if any(answer in unit for answer in answers))
    if not right or len(right) == len(units):
        raise ValueError("the answer stands in no sentence of the context, or in all")
    return units, Needle(line["question"].strip(), right)


def _page(draw: random.Random, kind: Kind) -> Page:
    owners = draw.sample(kind.names, _OWNERS)
    told: list[tuple[str, str | None]] = [(sentence, None) for sentence in draw.sample(filler(), _FILLER)]
    for attribute in kind.attributes:
        values = draw.sample(attribute.values, _OWNERS)
        wording = draw.randrange(2)
        for index, (owner, value) in enumerate(zip(owners, values, strict=True)):
            question, said = None, wording
            if index < _ASKED:
                question = attribute.questions[wording].format(owner)
                said = wording if draw.random() < _SAME_WORDS else 1 - wording
            fact = attribute.facts[said].format(owner, value)
            told.append((fact[:1].upper() + fact[1:], question))
        draw.shuffle(owners)
    draw.shuffle(told)
    needles = [Needle(question, frozenset({index})) for index, (_, question) in enumerate(told) if question]
    draw.shuffle(needles)
    return Page(tuple(sentence for sentence, _ in told), tuple(needles))
