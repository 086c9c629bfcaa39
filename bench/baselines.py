"""What the readers are measured beside: plain BM25 with the same prompt, and `direct` on what fits the window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from items import Item, Span

from longleaf.agents.prompt import load
from longleaf.engine.contract import Done, Engine, Request, Sampling, complete
from longleaf.retrieval.search import bm25

CHUNK_WORDS = 200
CHUNKS = 5
ANSWER_TOKENS = 96
_AROUND = 192
"""Tokens for the prompt's own words, its template and the reply."""


def ranked(text: str, question: str, count: int = CHUNKS) -> list[Span]:
    """The best chunks of 200 words by BM25 (k1 1.2, b 0.75, words as they stand), best first."""
    places = [match.span() for match in re.finditer(r"\S+", text)]
    chunks = [
        (places[first][0], places[min(first + CHUNK_WORDS, len(places)) - 1][1])
        for first in range(0, len(places), CHUNK_WORDS)
    ]
    scores = bm25(_words(question), [_words(text[start:end]) for start, end in chunks], b=0.75)
    return [chunks[place] for place in np.argsort(-scores, kind="stable")[:count]]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def reason(engine: Engine, passages: Sequence[str], question: str) -> Done:
    """The prompt that `retrieve` ends with, given these passages."""
    prompt = load("reason")
    messages = prompt.messages(quotes="\n\n".join(passages), question=question)
    sampling = Sampling(max_tokens=ANSWER_TOKENS, stop=("\n\n",), seed=0)
    return complete(engine, Request("answer", messages, sampling, prompt.prefix))


def cut(item: Item, engine: Engine) -> Item:
    """The item with its text cut at the end to what `direct` can take; the same item where it fits."""
    room = engine.card.window - _AROUND - engine.count(load("direct").frame(item.question))
    if engine.count(item.text) <= room:
        return item
    low, high = 0, len(item.text)
    while high - low > 64:
        middle = (low + high) // 2
        low, high = (middle, high) if engine.count(item.text[:middle]) <= room else (low, middle)
    end = item.text.rfind(" ", 0, low)
    kept = tuple(span for span in item.headings if span[1] <= end)
    return replace(item, text=item.text[:end], headings=kept)
