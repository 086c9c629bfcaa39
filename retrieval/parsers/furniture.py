"""Running headers, running footers and page numbers of a PDF: found by their place, removed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from longleaf.retrieval.parsers.line import Line

FEWEST: Final = 4
"""Pages a document needs before anything can be called repeated."""
DEEP: Final = 3
"""Lines looked at from each edge."""
NEAR: Final = 3
"""A running header may differ on facing pages and change with the chapter: it recurs within so many pages."""
CLOSE: Final = 2.5
"""Distance of lines of one header, in font sizes; the text stands farther off."""
SHARE: Final = 0.4
TOLERANCE: Final = 2.0
NUMBER: Final = re.compile(r"\b(?:\d+|[ivxlc]+|[IVXLC]+)\b")


def remove_furniture(pages: Sequence[list[Line] | str]) -> list[list[Line] | str]:
    """The pages without their furniture.

    A place at a page's edge (a height, within 2 points) is a slot when, on at least 40% of the pages, the
    line there recurs within three pages, numbers aside, or begins or ends with the page's own number. In a
    slot, a line goes when it recurs so, has the page's number, or is nothing but a number.
    """
    edges = [_edge_lines(page) if isinstance(page, list) else [] for page in pages]
    full = sum(1 for page in pages if page)
    if full < FEWEST:
        return list(pages)
    recurring = _recurring(edges)
    numbered, offset = _numbered(edges)
    places = _slots(recurring, full) | _slots(numbered, full)
    drop = {(index, line) for index, line in recurring | numbered if _height(line) in places}
    drop |= {
        (index, line)
        for index, lines in enumerate(edges)
        for line in lines
        if _height(line) in places and (NUMBER.fullmatch(line.text) or index + offset in _end_numbers(line))
    }
    return [
        page if isinstance(page, str) else [line for line in page if (index, line) not in drop]
        for index, page in enumerate(pages)
    ]


def _slots(lines: Iterable[tuple[int, Line]], full: int) -> set[int]:
    """Heights that hold one of `lines` on enough of the `full` pages."""
    slots: dict[int, set[int]] = defaultdict(set)
    for index, line in lines:
        for near in range(_height(line) - 1, _height(line) + 2):
            slots[near].add(index)
    return {height for height, found in slots.items() if len(found) >= max(3, SHARE * full)}


def _numbered(edges: Sequence[Iterable[Line]]) -> tuple[set[tuple[int, Line]], int]:
    """Edge lines that begin or end with the page's number, and what that number is above the page's index."""
    counts = Counter(
        (number - index, _height(line))
        for index, lines in enumerate(edges)
        for line in lines
        for number in _end_numbers(line)
    )
    if not counts:
        return set(), 0
    offset = counts.most_common(1)[0][0][0]
    found = {
        (index, line) for index, lines in enumerate(edges) for line in lines if index + offset in _end_numbers(line)
    }
    return found, offset


def _end_numbers(line: Line) -> set[int]:
    return {int(number) for number in re.findall(r"^\d{1,5}(?![\d.,:])|(?<!\S)\d{1,5}$", line.text)}


def _edge_lines(page: list[Line]) -> list[Line]:
    """The lines nearest the upper and the lower edge, as far as they follow each other closely."""
    ordered = sorted(page, key=lambda line: -line.y)
    return [*_cluster(ordered), *_cluster(ordered[::-1])]


def _cluster(ordered: list[Line]) -> list[Line]:
    found = ordered[:1]
    for last, line in pairwise(ordered[:DEEP]):
        if abs(last.y - line.y) > CLOSE * last.size:
            break
        found.append(line)
    return found


def _recurring(edges: Sequence[Iterable[Line]]) -> set[tuple[int, Line]]:
    """(page index, line) of edge lines that stand again, at the same height, on a page nearby."""
    found: set[tuple[int, Line]] = set()
    seen: dict[tuple[str, int], list[tuple[int, Line]]] = defaultdict(list)
    for index, lines in enumerate(edges):
        for line in lines:
            word = NUMBER.sub("#", line.text).casefold()
            height = _height(line)
            for near in (height - 1, height, height + 1):
                for page, other in seen[word, near][-NEAR:]:
                    if 0 < index - page <= NEAR and abs(other.size - line.size) < 0.5:
                        found |= {(index, line), (page, other)}
            seen[word, height].append((index, line))
    return found


def _height(line: Line) -> int:
    return round(line.y / TOLERANCE)
