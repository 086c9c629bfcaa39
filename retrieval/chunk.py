"""Chunks: structure first (headings, paragraphs, sentences), then tokens of the embedder.

The spans of a text's chunks partition it: joined, they give the text back exactly. What is embedded and searched is
the chunk's *body*: its span, led in by the end of the chunk before (overlap) and by the headings in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from longleaf.retrieval.sentence import paragraphs, sentences
from longleaf.retrieval.text import Span, Text

CountTokens = Callable[[Sequence[str]], list[int]]
"""Token counts of several strings at once, by the embedder's tokenizer."""

_HEADING_CHARACTERS = 80
"""A heading is cut here where it leads a chunk in: one that is a paragraph would crowd out the chunk."""


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Sizes in tokens of the embedder.

    A chunk holds at most `tokens`, plus the headings that open it; a heading ends the chunk before from `least` on.
    What leads a chunk in, the headings in force and the end of the chunk before, has at most `overlap` together.
    """

    tokens: int = 210
    overlap: int = 32
    least: int = 60

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.tokens or not 0 <= self.least <= self.tokens:
            raise ValueError(f"chunk plan {self} needs 0 <= overlap < tokens and 0 <= least <= tokens")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a text. Its body is `context` (the headings in force), then the text from `lead` to `span.end`."""

    ordinal: int
    span: Span
    lead: int
    tokens: int
    context: str = ""


@dataclass(frozen=True, slots=True)
class _Piece:
    span: Span
    tokens: int
    heading: bool


def chunk(text: Text, count: CountTokens, plan: ChunkPlan | None = None) -> list[Chunk]:
    """Cut `text` into chunks whose spans partition it."""
    plan = plan or ChunkPlan()
    chunks: list[Chunk] = []
    for group in _packed(_pieces(text, count, plan), plan):
        span = Span(group[0].span.start, group[-1].span.end)
        context, used = _context(text, span.start, count, plan.overlap)
        lead = _lead(text.characters, span, chunks[-1].span, count, plan.overlap - used) if chunks else span.start
        chunks.append(Chunk(len(chunks), span, lead, sum(piece.tokens for piece in group), context))
    return chunks


def body(text: Text, part: Chunk) -> str:
    """What is embedded and indexed for a chunk: the headings in force, the overlap, the chunk itself."""
    content = text.characters[part.lead : part.span.end].strip()
    return f"{part.context}\n{content}" if part.context and not content.startswith(part.context) else content


def _context(text: Text, start: int, count: CountTokens, limit: int) -> tuple[str, int]:
    """The innermost headings in force at `start` that fit `limit` tokens, and how many they have."""
    context, tokens = "", 0
    for heading in reversed(text.headings_at(start)):
        name = " ".join(text.slice(Span(heading.start, heading.end)).split())[:_HEADING_CHARACTERS]
        if not name or heading.start == start:
            continue  # a heading that opens the chunk is in it already
        wider = f"{name} > {context}" if context else name
        if (size := count([wider])[0]) > limit:
            break
        context, tokens = wider, size
    return context, tokens


def _pieces(text: Text, count: CountTokens, plan: ChunkPlan) -> Iterator[_Piece]:
    """Paragraphs, cut at headings; those over the limit as sentences; sentences over it as runs of words."""
    edges = {0, len(text)} | {edge for heading in text.headings for edge in (heading.start, heading.end)}
    starts = sorted(edges)
    headings = {heading.start for heading in text.headings}
    spans = [part for start, end in pairwise(starts) for part in paragraphs(text.characters, Span(start, end))]
    for span, tokens in zip(spans, count([text.slice(span) for span in spans]), strict=True):
        heading = span.start in headings
        if tokens <= plan.tokens:
            yield _Piece(span, tokens, heading)
        else:
            yield from _split(text.characters, span, heading, count, plan)


def _split(characters: str, span: Span, heading: bool, count: CountTokens, plan: ChunkPlan) -> Iterator[_Piece]:
    parts = list(sentences(characters, span))
    counts = count([characters[part.start : part.end] for part in parts])
    for part, tokens in zip(parts, counts, strict=True):
        for piece in [_Piece(part, tokens, False)] if tokens <= plan.tokens else _words(characters, part, count, plan):
            yield _Piece(piece.span, piece.tokens, heading and piece.span.start == span.start)


def _words(characters: str, span: Span, count: CountTokens, plan: ChunkPlan) -> Iterator[_Piece]:
    """Halve a run without sentence ends at white space (or anywhere, where there is none) until it fits."""
    tokens = count([characters[span.start : span.end]])[0]
    if tokens <= plan.tokens or len(span) < 2:
        yield _Piece(span, tokens, False)
        return
    middle = (span.start + span.end) // 2
    cut = characters.rfind(" ", span.start + 1, middle)
    cut = cut + 1 if cut > span.start + len(span) // 4 else middle
    yield from _words(characters, Span(span.start, cut), count, plan)
    yield from _words(characters, Span(cut, span.end), count, plan)


def _packed(pieces: Iterator[_Piece], plan: ChunkPlan) -> Iterator[list[_Piece]]:
    group: list[_Piece] = []
    size = 0
    for piece in pieces:
        full = size + piece.tokens > plan.tokens
        # A heading opens a chunk, unless what came before is too little to stand alone.
        if group and (full or (piece.heading and size >= plan.least)):
            kept, carried = _without_trailing_headings(group)
            yield kept
            group, size = carried, sum(item.tokens for item in carried)
        group.append(piece)
        size += piece.tokens
    if group:
        yield group


def _without_trailing_headings(group: list[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """A heading belongs to what follows it, not to the end of the chunk before."""
    end = len(group)
    while end > 1 and group[end - 1].heading:
        end -= 1
    return (group[:end], group[end:]) if end > 1 or not group[0].heading else (group, [])


def _lead(characters: str, span: Span, before: Span, count: CountTokens, limit: int) -> int:
    """Start of the whole sentences at the end of the chunk before that fit `limit` tokens."""
    tail = list(sentences(characters, before))
    lead, size = span.start, 0
    for part in reversed(tail):
        size += count([characters[part.start : part.end]])[0]
        if size > limit:
            break
        lead = part.start
    return lead
