"""Hybrid search: words and vectors find passages, their sentences decide the order and become the evidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from longleaf.retrieval.embedding import Embedder, Vectors
from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.text import Span, Text

Scores = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How a search runs.

    `candidates` passages are taken by words and by vectors each and fused; the first `reread` of them are ranked again
    by their sentences, and `passages` are kept. `relevance` is the weight of relevance against novelty in maximal
    marginal relevance (Carbonell and Goldstein, 1998); 1 turns it off.
    """

    candidates: int = 30
    reread: int = 16
    passages: int = 5
    relevance: float = 0.9


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found; `score` is comparable within one search only."""

    chunk_id: str
    document_id: str
    span: Span
    score: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a found passage.

    `score` orders sentences within one search. `similarity` is the cosine to the question and `coverage` the share of
    the question's words, weighted by rarity, that the sentence and its passage hold: both compare across searches.
    """

    document_id: str
    span: Span
    chunk_id: str
    score: float
    similarity: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Hits:
    """Outcome of a search, best first."""

    passages: tuple[Passage, ...] = ()
    sentences: tuple[Sentence, ...] = ()


class WordIndex(Protocol):
    def search(
        self, terms: Sequence[str], document_ids: Sequence[str] | None, limit: int
    ) -> list[tuple[str, float]]: ...


class VectorIndex(Protocol):
    def search(self, vector: Vectors, document_ids: Sequence[str] | None, k: int) -> list[tuple[str, float]]: ...

    def vectors(self, chunk_ids: Sequence[str]) -> Vectors: ...


class Shelf(Protocol):
    """Texts and chunk spans by id."""

    def text(self, document_id: str) -> Text: ...

    def spans(self, chunk_ids: Sequence[str]) -> dict[str, tuple[str, Span]]:
        """Document id and span of each chunk that still exists."""
        ...


class Search:
    """Search over an index.

    Three rankings of the candidates are fused by reciprocal rank (Cormack et al., 2009): words (BM25), the chunk's
    vector, and the best of its sentences' vectors, which sees a fact that a chunk's mean vector washes out.
    """

    def __init__(
        self, words: WordIndex, vectors: VectorIndex, shelf: Shelf, embedder: Embedder, plan: SearchPlan | None = None
    ) -> None:
        self._words = words
        self._vectors = vectors
        self._shelf = shelf
        self._embedder = embedder
        self.plan = plan or SearchPlan()

    def find(self, question: str, document_ids: Sequence[str] | None = None) -> Hits:
        """Passages and sentences for `question` in the given documents, or in all."""
        plan = self.plan
        asked = self._embedder.embed([question])[0]
        by_words = [key for key, _ in self._words.search(terms(question), document_ids, plan.candidates)]
        by_vector = [key for key, _ in self._vectors.search(asked, document_ids, plan.candidates)]
        spans = self._shelf.spans(list(dict.fromkeys(by_words + by_vector)))
        rankings = [[key for key in ranking if key in spans] for ranking in (by_words, by_vector)]
        fused = fuse(rankings)[: plan.reread]
        if not fused:
            return Hits()
        units = self._units(question, asked, [(key, *spans[key]) for key, _ in fused])
        best: dict[str, float] = {}
        for unit in units:
            best[unit.chunk_id] = max(best.get(unit.chunk_id, -1.0), unit.similarity)
        scores = dict(fuse([*rankings, sorted(best, key=lambda key: -best[key])]))
        order = sorted((key for key, _ in fused), key=lambda key: -scores[key])
        chosen = self._diverse(order, scores)
        passages = tuple(Passage(key, *spans[key], scores[key]) for key in chosen)
        return Hits(passages, _ranked(units, scores))

    def weigh(self, question: str, places: Sequence[tuple[str, str, Span]]) -> tuple[Sentence, ...]:
        """The sentences of given places (key, document id, span), best first, scored against `question` as `find` does.

        For evidence that was not found by search: `chunk_id` of a sentence is the key of its place.
        """
        if not places:
            return ()
        units = self._units(question, self._embedder.embed([question])[0], places)
        return tuple(sorted(units, key=lambda unit: -unit.score))

    def closeness(self, question: str, chunk_ids: Sequence[str]) -> dict[str, float]:
        """Cosine of each chunk's vector to the question: what an index that is there already knows for nothing.

        Raises `IndexStale` where the index lacks one.
        """
        if not chunk_ids:
            return {}
        similarities = self._vectors.vectors(chunk_ids) @ self._embedder.embed([question])[0]
        return dict(zip(chunk_ids, map(float, similarities), strict=True))

    def mentioning(self, name: str, document_ids: Sequence[str], limit: int) -> tuple[Passage, ...]:
        """Passages that hold a name, those that speak most of it first: by the index of words alone."""
        found = self._words.search([name], document_ids, limit)
        spans = self._shelf.spans([key for key, _ in found])
        return tuple(Passage(key, *spans[key], score) for key, score in found if key in spans)

    def _units(self, question: str, asked: Vectors, chunks: Sequence[tuple[str, str, Span]]) -> list[Sentence]:
        """Sentences of the candidates, scored against the question by words and by meaning."""
        places: list[tuple[str, str, Span]] = []
        for chunk_id, document_id, span in chunks:
            characters = self._shelf.text(document_id).characters
            units = (trimmed(characters, unit) for unit in sentences(characters, span))
            places += [(chunk_id, document_id, unit) for unit in units if len(unit) > 1]
        if not places:
            return []
        contents = [self._shelf.text(document_id).slice(span) for _, document_id, span in places]
        similarities = self._embedder.embed(contents) @ asked
        stems = [stemmed(content) for content in contents]
        lexical = bm25(stemmed(question), stems)
        lexical = lexical / max(float(lexical.max()), 1e-9)
        # What points away from the question is as far as can be: divided by a best below zero it would drown the words.
        closeness = similarities.clip(min=0) / max(float(similarities.max()), 1e-9)
        coverage = _coverage(stemmed(question), stems, [chunk_id for chunk_id, _, _ in places])
        return [
            Sentence(document_id, span, chunk_id, float(score), float(similarity), float(covered))
            for (chunk_id, document_id, span), score, similarity, covered in zip(
                places, (lexical + closeness) / 2, similarities, coverage, strict=True
            )
        ]

    def _diverse(self, order: Sequence[str], scores: dict[str, float]) -> list[str]:
        if self.plan.relevance >= 1.0 or len(order) <= self.plan.passages:
            return list(order[: self.plan.passages])
        relevance = np.array([scores[key] for key in order])
        picked = marginal_relevance(
            relevance / relevance.max(), self._vectors.vectors(order), self.plan.passages, self.plan.relevance
        )
        return sorted((order[index] for index in picked), key=lambda key: -scores[key])


def fuse(rankings: Sequence[Sequence[str]], constant: int = 60) -> list[tuple[str, float]]:
    """Reciprocal-rank fusion: the score of a key is the sum of 1 / (constant + rank) over the rankings that hold it."""
    scores: Counter[str] = Counter()
    for ranking in rankings:
        for rank, key in enumerate(ranking, 1):
            scores[key] += 1.0 / (constant + rank)  # type: ignore[assignment]
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def marginal_relevance(relevance: Scores, vectors: Vectors, count: int, weight: float) -> list[int]:
    """Indices of `count` items, each the best of the rest: weight * relevance - (1 - weight) * likeness to the chosen.

    `relevance` is [n] within 0 to 1, `vectors` [n, d] of unit length.
    """
    likeness = np.zeros(len(relevance))
    chosen: list[int] = []
    while len(chosen) < min(count, len(relevance)):
        value = weight * relevance - (1 - weight) * likeness
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
    return chosen


def at_ends(ranked: Sequence[T]) -> list[T]:
    """Strongest first and last, weakest in the middle, where models look least (Liu et al., 2023)."""
    return list(ranked[0::2]) + list(ranked[1::2])[::-1]


def terms(question: str) -> list[str]:
    """Words to look up, without repeats."""
    return list(dict.fromkeys(re.findall(r"\w+", question.lower())))


def stemmed(content: str) -> list[str]:
    """Words of `content`, lower case, English suffixes removed (Snowball)."""
    return [_stem(word) for word in re.findall(r"\w+", content.lower())]


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    """Kept, because stemming in Python took more than half of the time a reader spent between two calls."""
    import snowballstemmer

    stem: str = snowballstemmer.stemmer("english").stemWord(word)  # one each: it is not made for several threads
    return stem


def bm25(query: Sequence[str], documents: Sequence[Sequence[str]], k1: float = 1.2, b: float = 0.5) -> Scores:
    """BM25 of each document, with document frequencies from these documents alone.

    Within the candidates of one question, words they all share carry no weight: that is what tells them apart.
    """
    counts = [Counter(document) for document in documents]
    lengths = np.array([len(document) for document in documents], dtype=np.float64)
    norm = k1 * (1 - b + b * lengths / max(float(lengths.mean()), 1e-9))
    result = np.zeros(len(documents))
    for word in set(query):
        frequency = np.array([count[word] for count in counts], dtype=np.float64)
        holders = int((frequency > 0).sum())
        weight = log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        result += weight * frequency * (k1 + 1) / (frequency + norm)
    return result


def _coverage(query: Sequence[str], documents: Sequence[Sequence[str]], groups: Sequence[str]) -> list[float]:
    """Share of the query's words, weighted by rarity among `documents`, that each one's group holds together."""
    holders = Counter(word for document in documents for word in set(document))
    weights = {word: log(1 + len(documents) / (0.5 + holders[word])) for word in set(query)}
    held: dict[str, set[str]] = {}
    for group, document in zip(groups, documents, strict=True):
        held.setdefault(group, set()).update(document)
    total = sum(weights.values()) or 1.0
    share = {group: sum(weights[word] for word in weights if word in words) / total for group, words in held.items()}
    return [share[group] for group in groups]


def _ranked(units: Sequence[Sentence], scores: dict[str, float]) -> tuple[Sentence, ...]:
    """Sentences by their own score plus half their passage's, each relative to the best."""
    top = max(scores.values())
    total = [unit.score + 0.5 * scores[unit.chunk_id] / top for unit in units]
    order = sorted(range(len(units)), key=lambda index: -total[index])
    return tuple(
        Sentence(
            units[index].document_id,
            units[index].span,
            units[index].chunk_id,
            total[index],
            units[index].similarity,
            units[index].coverage,
        )
        for index in order
    )
