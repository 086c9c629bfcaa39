"""Sentences as spans: the unit that is quoted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longleaf.retrieval.text import Span

# A full stop after one of these does not end a sentence.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc cf eg ie e.g i.e al fig figs eq no nos vol pp p ch sec art approx ca c dept "
    "est inc ltd co corp gen col lt sgt capt cmdr adm rev hon pres gov sen rep jan feb mar apr jun jul aug sep sept "
    "oct nov dec mt ft op u.s u.k a.m p.m ph.d b.c a.d".split()
)
_PARAGRAPH_BREAK = re.compile(r"\n[ \t]*\n\s*")
# Looking back keeps a run of dots (a table of contents) from being tried again from each of them.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”’）]*")
_LONGEST = 500
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]+$")


def paragraphs(characters: str, span: Span) -> Iterator[Span]:
    """Split `span` at blank lines. Each paragraph carries the break behind it, so the parts add up to the span."""
    start = span.start
    for match in _PARAGRAPH_BREAK.finditer(characters, span.start, span.end):
        if match.end() > start:
            yield Span(start, match.end())
            start = match.end()
    if start < span.end:
        yield Span(start, span.end)


def sentences(characters: str, span: Span) -> Iterator[Span]:
    """Split `span` into sentences, each with the white space behind it, so the parts add up to the span.

    A paragraph break always ends a sentence; so does a line break before a list item. Abbreviations, initials and
    decimal points do not.
    """
    for paragraph in paragraphs(characters, span):
        start = paragraph.start
        for end in [*_ends(characters, paragraph), paragraph.end]:
            if start < end:
                yield from _lines(characters, Span(start, end))
            start = end


def trimmed(characters: str, span: Span) -> Span:
    """`span` without the white space at its ends; empty where it holds nothing else."""
    start, end = span.start, span.end
    while start < end and characters[start].isspace():
        start += 1
    while end > start and characters[end - 1].isspace():
        end -= 1
    return Span(start, end)


def _lines(characters: str, sentence: Span) -> Iterator[Span]:
    """A "sentence" longer than any prose is a table or a listing: then its lines are the unit."""
    if len(sentence) <= _LONGEST:
        yield sentence
        return
    start = sentence.start
    while start < sentence.end:
        end = characters.find("\n", start, sentence.end) + 1 or sentence.end
        yield Span(start, end)
        start = end


_LIST_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*•–]|\(?(?:[0-9]{1,3}|[a-z]|[ivx]{2,5})[.)])[ \t])")


def _ends(characters: str, paragraph: Span) -> list[int]:
    ends = {match.end() for match in _LIST_ITEM.finditer(characters, paragraph.start, paragraph.end)}
    for match in _SENTENCE_END.finditer(characters, paragraph.start, paragraph.end):
        if _ends_sentence(characters, paragraph, match):
            end = match.end()
            while end < paragraph.end and characters[end].isspace():
                end += 1
            ends.add(end)
    return sorted(end for end in ends if paragraph.start < end < paragraph.end)


def _ends_sentence(characters: str, paragraph: Span, match: re.Match[str]) -> bool:
    following = characters[match.end() : match.end() + 24].lstrip(" \t\n\"'“‘([")
    if following[:1].islower():
        return False
    if match.group().startswith("."):
        word = _LAST_WORD.search(characters, max(paragraph.start, match.start() - 24), match.start())
        last = word.group() if word else ""
        if last.lower() == "no":
            return not following[:1].isdigit()
        if last.lower() in _ABBREVIATIONS:
            return False
        if len(last) == 1 and last.isalpha() and last.isupper():
            return False  # an initial
    return True
