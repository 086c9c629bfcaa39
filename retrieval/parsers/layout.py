"""Printed lines into paragraphs and headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from longleaf.retrieval.parsers.canonical import canonical, collapse
from longleaf.retrieval.parsers.footnote import NotedPage, marks, separate_notes
from longleaf.retrieval.parsers.line import Line
from longleaf.retrieval.parsers.outline import Entry, locate
from longleaf.retrieval.parsers.section import Block, Section

BULLET: Final = re.compile(r"^(?:[•‣◦▪■●○∙·*–—-]|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)])\s")
LEADERS: Final = re.compile(r"(?:\. ?){4}(?:\d+|[ivxlc]+)?$")
LARGER: Final = 1.12
"""A heading's font against the text's, where the file has no bookmarks."""
LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Measures:
    """What is usual in a document: font size in points, distance of lines in font sizes, its words (folded),
    and whether it breaks words that have no hyphen of their own.
    """

    size: float
    leading: float
    words: Counter[str]
    hyphenates: bool


@dataclass
class _Paragraph:
    """Lines that belong together; `level` makes them a heading, `tight` leaves no gap before them."""

    lines: list[Line]
    level: int | None = None
    tight: bool = False


def lay_out(pages: Sequence[list[Line] | str], entries: Sequence[Entry]) -> list[Section]:
    """One section for each page. Headings are bookmarks found on their pages, else lines in a larger font."""
    usual = measure([page for page in pages if isinstance(page, list)])
    located: list[dict[int, tuple[int, int]]] = []
    for index, page in enumerate(pages):
        here = [entry for entry in entries if entry.page == index]
        located.append(locate(here, page) if here and isinstance(page, list) else {})
    if sum(map(len, located)) < 0.5 * len(entries) or not entries:
        located = _large(pages, usual)
    sections = []
    for page, noted, headings in zip(pages, separate_notes(pages, usual.size), located, strict=True):
        if isinstance(page, str):
            sections.append(Section(error=page))
        else:
            sections.append(Section(tuple(_blocks(noted, headings, usual))))
    return sections


def measure(pages: Sequence[list[Line]]) -> Measures:
    """The usual font size (by characters), line distance and vocabulary of a document."""
    sizes: Counter[float] = Counter()
    gaps: list[float] = []
    words: Counter[str] = Counter()
    for page in pages:
        for line in page:
            sizes[round(line.size * 2) / 2] += len(line.text)
            words.update(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", line.text.casefold()))
        for last, line in pairwise(page):
            if last.size > 0 and abs(last.size - line.size) < 0.5 and 0 < (last.y - line.y) / last.size < 2.5:
                gaps.append(round((last.y - line.y) / last.size, 2))
    size = sizes.most_common(1)[0][0] if sizes else 10.0
    broken = [pair for page in pages for pair in _broken_words(page)]
    known = [kept for head, tail in broken if (kept := spelt_with_hyphen(head, tail, words)) is not None]
    hyphenates = not known or known.count(False) >= known.count(True)
    return Measures(size or 1.0, median(gaps) if gaps else 1.2, words, hyphenates)


def _broken_words(page: list[Line]) -> Iterator[tuple[str, str]]:
    """What stands before and after each hyphen at the end of a line."""
    for last, line in pairwise(page):
        if last.hyphen and (pair := _word_parts(last.text, line.text)):
            yield pair


def _word_parts(text: str, following: str) -> tuple[str, str] | None:
    head = re.search(r"[^\W\d_]+(?:-[^\W\d_]+)*$", text)
    tail = re.match(r"[^\W\d_]+", following)
    return (head.group(), tail.group()) if head and tail else None


def _large(pages: Sequence[list[Line] | str], usual: Measures) -> list[dict[int, tuple[int, int]]]:
    """Headings by font size: short runs of clearly larger lines. Their sizes give the levels."""
    runs: list[tuple[int, int, int, float]] = []
    for index, page in enumerate(pages):
        first = 0
        while isinstance(page, list) and first < len(page):
            after = first + 1
            size = page[first].size
            if size >= LARGER * usual.size:
                while (
                    after < len(page) and abs(page[after].size - size) < 0.3 and _follows(page[after - 1], page[after])
                ):
                    after += 1
                text = " ".join(line.text for line in page[first:after])
                if len(text) <= LONGEST and re.search(r"[^\W\d_]", text):
                    runs.append((index, first, after, round(size * 2) / 2))
            first = after
    sizes = sorted({size for *_, size in runs}, reverse=True)
    found: list[dict[int, tuple[int, int]]] = [{} for _ in pages]
    for index, first, after, size in runs:
        found[index][first] = (after, min(6, sizes.index(size) + 1))
    return found


def _follows(last: Line, line: Line) -> bool:
    return 0 < last.y - line.y < 1.6 * max(last.size, line.size)


def _blocks(page: NotedPage, headings: dict[int, tuple[int, int]], usual: Measures) -> Iterator[Block]:
    for paragraph in _paragraphs(page.carried, {}, usual):
        yield _block(paragraph, usual)
    notes = dict(page.notes)
    for paragraph in _paragraphs(page.body, headings, usual):
        yield _block(paragraph, usual)
        for mark in [mark for line in paragraph.lines for mark in marks(line)]:
            for part in _paragraphs(notes.pop(mark, []), {}, usual):
                yield _block(part, usual)


def _block(paragraph: _Paragraph, usual: Measures) -> Block:
    return Block(_spell(paragraph.lines, usual), paragraph.level, paragraph.tight)


def _paragraphs(lines: list[Line], headings: dict[int, tuple[int, int]], usual: Measures) -> list[_Paragraph]:
    found: list[_Paragraph] = []
    right = max((line.right for line in lines), default=0.0)
    at = 0
    while at < len(lines):
        line, last = lines[at], found[-1] if found else None
        if at in headings and headings[at][0] <= len(lines):
            after, level = headings[at]
            found.append(_Paragraph(lines[at:after], level))
            at = after
            continue
        if last is not None and last.level is None and _same_paragraph(last.lines[-1], line, right, usual):
            last.lines.append(line)
        else:
            tight = last is not None and last.level is None and _near(last.lines[-1], line, usual)
            found.append(_Paragraph([line], tight=tight))
        at += 1
    return found


def _spell(lines: list[Line], usual: Measures) -> str:
    """The lines of a paragraph as one."""
    text = lines[0].text
    for last, line in pairwise(lines):
        text = _join(text, line, usual, hyphen=last.hyphen)
    text = re.sub(r"(?:\. ?){5,}", "....", text)  # dot leaders: a line of them costs more to read than a sentence
    return collapse(canonical(text)) + ("-" if lines[-1].hyphen else "")


def _near(last: Line, line: Line, usual: Measures) -> bool:
    """Whether no more than the usual distance parts two lines of like size."""
    gap = last.y - line.y
    return abs(last.size - line.size) < 0.12 * usual.size and -0.5 < gap <= 1.25 * usual.leading * max(
        last.size, line.size
    )


def _same_paragraph(last: Line, line: Line, right: float, usual: Measures) -> bool:
    if last.hyphen:
        return True
    if (
        not _near(last, line, usual)
        or (last.mono and line.mono)
        or LEADERS.search(last.text)
        or BULLET.match(line.text)
    ):
        return False
    if line.left > last.left + 0.5 * line.size and not BULLET.match(last.text):
        return False
    # The line was full if the next line's first word would not have fitted.
    word = line.text.split(maxsplit=1)[0]
    return right - last.right < (len(word) + 1) * line.letter + 0.3 * line.size


def _join(text: str, line: Line, usual: Measures, *, hyphen: bool = False) -> str:
    if not hyphen:
        return f"{text} {line.text}"
    parts = _word_parts(text, line.text)
    return text + ("-" if parts is None or keeps_hyphen(*parts, usual) else "") + line.text


def keeps_hyphen(head: str, tail: str, usual: Measures) -> bool:
    """Whether a word broken at its hyphen is spelt with one, by what the rest of the document does."""
    known = spelt_with_hyphen(head, tail, usual.words)
    if known is not None:
        return known
    return not usual.hyphenates or tail[0].isupper() or "-" in head


def spelt_with_hyphen(head: str, tail: str, words: Counter[str]) -> bool | None:
    """Whether the document elsewhere spells the word with a hyphen; None when it does not say."""
    left, right = head.casefold(), tail.casefold()
    whole, spelt = words[left + right], words[f"{left}-{right}"]
    if whole or spelt:
        return spelt > whole
    # Two words of the document side by side: "line-end", but not "in-form".
    alone = min(words[left.rpartition("-")[2]], words[right])
    return True if alone > 2 and min(len(left), len(right)) > 2 else None
