"""Parts: what a reader of whole documents gives the model at once.

A part is a run of whole chunks of one document, as many as the budget holds, in reading order. Parts are made again
from the library whenever a run goes on, so a graph's state needs only their ordinals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longleaf.agents.errors import BudgetTooSmall, DocumentChanged
from longleaf.agents.reader import Ask, Deps
from longleaf.memory.records import DocumentRecord
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span, Text

_FRAME_TOKENS = 64
"""Room for what a chat template adds around a prompt."""


@dataclass(frozen=True, slots=True)
class Part:
    """Part `ordinal` (from 0) of a reading: a span of one document, the chunks in it, its size in the model's tokens.

    A chunk that is over the budget alone is split; its pieces then all carry its id.
    """

    ordinal: int
    document_id: str
    span: Span
    chunk_ids: tuple[str, ...]
    tokens: int

    def characters(self, shelf: Shelf) -> str:
        """Its text, without white space at the ends."""
        return shelf.text(self.document_id).slice(self.span).strip()


def parts(ask: Ask, deps: Deps) -> list[Part]:
    """The parts of all documents of a question, in the order the documents were named or added.

    Raises `DocumentMissing`.
    """
    made: list[Part] = []
    for document in chosen_documents(ask, deps):
        text = deps.shelf.text(document.id)
        for span, chunk_ids, tokens in _packed(document.id, text, ask.budget.part_tokens, deps):
            made.append(Part(len(made), document.id, span, chunk_ids, tokens))
    return made


def chosen_documents(ask: Ask, deps: Deps) -> list[DocumentRecord]:
    """The documents of a question: those it names, or all. Raises `DocumentMissing`."""
    return [deps.documents.get(key) for key in ask.document_ids] if ask.document_ids else deps.documents.list()


def fingerprint(made: Sequence[Part]) -> str:
    """Sixteen hex digits that are equal for equal parts; a state keeps them, to be compared when a run goes on."""
    lines = "\n".join(f"{part.document_id}:{part.span.start}:{part.span.end}" for part in made)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def same(made: Sequence[Part], expected: str) -> None:
    """Raise `DocumentChanged` unless these are the parts a run began with."""
    if fingerprint(made) != expected:
        raise DocumentChanged(
            "A document of this run was read anew, added or removed since it began, so it cannot go on where it "
            "stopped. Ask the question again."
        )


def fits(ask: Ask, deps: Deps, around: str, reply_tokens: int) -> None:
    """Raise `BudgetTooSmall` unless a full part, with `around` it and a reply, fits the model's window."""
    needed = ask.budget.part_tokens + deps.engine.count(around) + _FRAME_TOKENS + reply_tokens
    window = deps.engine.card.window
    if needed > window:
        less = max(64, ask.budget.part_tokens - 2 * (needed - window))
        raise BudgetTooSmall(
            f"A part of {ask.budget.part_tokens} tokens needs {needed} with the question, the memory and the reply; "
            f"the window of {deps.engine.card.name} holds {window}. Lower read.memory_tokens, or read.part_tokens "
            f"(--set read.part_tokens={less})."
        )


def _packed(document_id: str, text: Text, limit: int, deps: Deps) -> Iterator[tuple[Span, tuple[str, ...], int]]:
    start, held, size = 0, list[str](), 0
    end = 0
    for chunk in deps.documents.chunks(document_id):
        for span, tokens in _pieces(text, Span(chunk.start, chunk.end), limit, deps):
            if held and size + tokens > limit:
                yield Span(start, end), tuple(dict.fromkeys(held)), size
                start, held, size = end, [], 0
            held.append(chunk.id)
            size += tokens
            end = span.end
    if held:
        yield Span(start, end), tuple(dict.fromkeys(held)), size


def _pieces(text: Text, span: Span, limit: int, deps: Deps) -> Iterator[tuple[Span, int]]:
    """A chunk as it is, or halved at white space until its pieces are within the limit."""
    tokens = deps.engine.count(text.slice(span))
    if tokens <= limit or len(span) < 2:
        yield span, tokens
        return
    middle = (span.start + span.end) // 2
    cut = text.characters.rfind(" ", span.start + 1, middle)
    cut = cut + 1 if cut > span.start + len(span) // 4 else middle
    yield from _pieces(text, Span(span.start, cut), limit, deps)
    yield from _pieces(text, Span(cut, span.end), limit, deps)
