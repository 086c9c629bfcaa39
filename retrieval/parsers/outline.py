"""`Entry`: a bookmark of a PDF, and where its heading stands on the page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from longleaf.retrieval.parsers.canonical import canonical, collapse
from longleaf.retrieval.parsers.line import Line

NUMBER: Final = re.compile(
    r"^(?:(?:chapter|appendix|part|section)\s+)?(?:\d+|[A-Z]|[IVXLC]+)(?:\.\d+)*[.:)]?\s+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A bookmark: its title, level (1 the highest), page index from 0, and height in points if known."""

    title: str
    level: int
    page: int
    y: float | None = None


def locate(entries: Sequence[Entry], lines: Sequence[Line], longest: int = 4) -> dict[int, tuple[int, int]]:
    """For the entries of one page: index of a heading's first line -> (index after its last line, level).

    A heading is up to `longest` successive lines that spell the title, with or without a number before it.
    Of several places the one nearest below the bookmark's height is taken.
    """
    found: dict[int, tuple[int, int]] = {}
    keys = [key(line.text) for line in lines]
    bare = [key(NUMBER.sub("", line.text, count=1)) for line in lines]
    for entry in entries:
        wanted = {key(entry.title), key(NUMBER.sub("", entry.title, count=1))} - {""}
        places = []
        for first in range(len(lines)) if wanted else ():
            rest = ""
            for after in range(first + 1, min(first + longest, len(lines)) + 1):
                if after > first + 1:
                    rest += keys[after - 1]
                if keys[first] + rest in wanted or bare[first] + rest in wanted:
                    places.append((first, after))
                    break
        places = [place for place in places if place[0] not in found]
        if places:
            first, after = min(places, key=lambda place: _distance(entry, lines[place[0]]))
            found[first] = (after, entry.level)
    return found


def key(text: str) -> str:
    """Letters and digits of `text`, folded, for comparison."""
    folded = unicodedata.normalize("NFKD", canonical(text)).casefold()
    return "".join(letter for letter in folded if letter.isalnum())


def clean_title(title: str, name: str) -> str:
    """A PDF's own title, "" when a program wrote a file name or a placeholder there."""
    title = collapse(canonical(title))
    stem = PurePath(name).stem.casefold()
    if title.casefold() in {stem, "untitled", "title"} or re.match(r"Microsoft \w+ - ", title):
        return ""
    return "" if re.search(r"\.(docx?|pdf|tex|dvi|indd|qxd|odt|rtf|html?)$", title, re.IGNORECASE) else title


def _distance(entry: Entry, line: Line) -> float:
    if entry.y is None:
        return 0.0
    below = entry.y - line.y
    return below if below >= -1.0 else 1000.0 - below
