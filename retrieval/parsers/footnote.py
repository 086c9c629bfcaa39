"""Footnotes of PDF pages: the small print at a page's end, put behind the paragraph that refers to it.

A note that the typesetter had to carry over to the next page is put first on that page, next to the text it
follows. No note leaves its page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from longleaf.retrieval.parsers.line import Line

SMALLER: Final = 0.96
FINISHED: Final = re.compile(r"[.!?:;)\]”’\"']$")


@dataclass
class NotedPage:
    """A page with its notes apart: `carried` come first, `notes` (by mark) behind their references.

    `body` is the page's lines without them; only lines from its end are missing, so indices of lines stay
    valid.
    """

    body: list[Line]
    carried: list[Line] = field(default_factory=list)
    notes: dict[str, list[Line]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Zone:
    """The small print at a page's end: lines before any mark, and the marked notes."""

    body: list[Line]
    loose: list[Line]
    notes: list[list[Line]]


def separate_notes(pages: Sequence[list[Line] | str], size: float) -> list[NotedPage]:
    """The pages with their notes apart; `size` is the font size of the text, in points.

    Small print is notes from the first line that begins with a raised number. A note whose number is raised
    in the text neither of its page nor of the one before stays where it is.
    """
    zones = [_zone(page if isinstance(page, list) else [], size) for page in pages]
    found: list[NotedPage] = []
    pending: set[str] = set()
    unfinished = False
    for index, zone in enumerate(zones):
        page = NotedPage(list(zone.body))
        if unfinished and zone.loose:
            page.carried += zone.loose
        else:
            page.body += zone.loose
        referred = {mark for line in page.body for mark in marks(line)}
        following = zones[index + 1].loose if index + 1 < len(zones) else []
        open_before, unfinished = unfinished, False
        for note in zone.notes:
            mark = marks(note[0])[0]
            last = note is zone.notes[-1]
            unfinished = last and bool(following) and (note[-1].hyphen or not FINISHED.search(note[-1].text))
            if unfinished or (mark not in referred and mark not in pending) or mark in page.notes:
                page.body += note
            elif mark in referred:
                page.notes[mark] = note
            else:
                page.carried += note
        # A note may be longer than a whole page's small print.
        unfinished = unfinished or (open_before and not zone.notes and bool(zone.loose) and bool(following))
        pending = referred - {marks(note[0])[0] for note in zone.notes}
        found.append(page)
    return found


def marks(line: Line) -> list[str]:
    """The raised numbers in a line."""
    return [match.group() for at in line.raised if (match := re.match(r"\d+", line.text[at:]))]


def _zone(lines: list[Line], size: float) -> _Zone:
    after = len(lines)
    while after and lines[after - 1].size < SMALLER * size:
        after -= 1
    starts = [at for at in range(after, len(lines)) if 0 in lines[at].raised and marks(lines[at])]
    first = starts[0] if starts else len(lines)
    notes = [lines[start:end] for start, end in pairwise([*starts, len(lines)])]
    return _Zone(lines[:after], lines[after:first], notes)
