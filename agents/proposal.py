"""Sentences of a part that code proposes for a memory, beside what the model writes.

A small model overlooks much and a great one something. Words are looked at in every sentence; meaning only where the
words or the index, which has the chunks' vectors already, say that it may pay: to embed each of the 25,000 sentences
of half a million tokens would take ten minutes on a CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from longleaf.agents.lines import Unit
from longleaf.agents.names import content
from longleaf.agents.part import Part
from longleaf.agents.reader import Work
from longleaf.retrieval.search import bm25, stemmed
from longleaf.retrieval.text import Span

_BY_WORDS = 6
_BY_MEANING = 8
_LEAST_WORDS = 4
_AS_STRONG = 0.15
"""How much less confident a sentence may be and still say the same of something: "dropped the football" and "picked up
the football" differ by so much for "Where is the football?"."""

LONGEST = 400
"""Characters; what is longer is a listing, not a sentence."""


def relevant(work: Work, part: Part, units: Sequence[Unit]) -> list[Unit]:
    """Sentences of a part that may answer the question: the best by words, and some of the chunk nearest in meaning."""
    if not units:
        return []
    question = work.ask.question
    scores = bm25(stemmed(question), [stemmed(unit.text) for unit in units])
    ranked = sorted(range(len(units)), key=lambda place: -scores[place])
    chosen = {place for place in ranked[:_BY_WORDS] if scores[place] > 0}
    closeness = work.deps.search.closeness(question, part.chunk_ids)
    nearest = max(closeness, key=lambda key: closeness[key])
    _, span = work.deps.shelf.spans([nearest])[nearest]
    last = last_telling(question, [unit.text for unit in units])
    chosen.update([] if last is None else [last])
    inside = [place for place, unit in enumerate(units) if Span(unit.source.start, unit.source.end).overlaps(span)]
    chosen.update(sorted(inside, key=lambda place: -scores[place])[:_BY_MEANING])
    return [unit for place, unit in enumerate(units) if place in chosen and len(unit.text) <= LONGEST]


def last_telling(question: str, texts: Sequence[str], strength: Sequence[float] = ()) -> int | None:
    """The last of the texts that hold most of the question's words: of two facts about one thing the later one holds.

    Where their strength is known, one far weaker than the strongest of them does not count. None where no text holds
    any of the words.
    """
    asked = content(question)
    shares = [len(asked & content(text)) for text in texts]
    most = max(shares, default=0)
    equal = [place for place, share in enumerate(shares) if share == most]
    if not most:
        return None
    if strength:
        least = max(strength[place] for place in equal) - _AS_STRONG
        equal = [place for place in equal if strength[place] >= least]
    return equal[-1]


def central(units: Sequence[Unit], room: float = LONGEST) -> list[Unit]:
    """The sentence of a part that says most of what its other sentences speak of; none of a part without sentences.

    One of at most `room` characters, where there is one.

    The share of the part's repeated words that a sentence holds, each as often as it occurs, by the sentence's length
    (SumBasic, Nenkova and Vanderwende, 2005).
    """
    counts = Counter(word for unit in units for word in unit.words)
    repeated = {word: count for word, count in counts.items() if count > 1}
    prose = [unit for unit in units if len(unit.words) >= _LEAST_WORDS and len(unit.text) <= LONGEST]
    short = [unit for unit in prose if len(unit.text) <= room]
    prose = short or prose
    if not prose:
        return []
    return [max(prose, key=lambda unit: sum(repeated.get(word, 0) for word in unit.words) / len(unit.words) ** 0.5)]
