"""`Text`: the immutable characters of a document, with its pages and headings.

Every chunk, quote and citation is a `[start, end)` span of these characters (Python string indices, so code points).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `[start, end)` of a document's text."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"span [{self.start}, {self.end}) is not an interval")

    def __len__(self) -> int:
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Page:
    """One page (PDF) or section (EPUB chapter, whole file elsewhere), `[start, end)`. An empty page has start == end.

    `error` says why a page could not be read; its text is then empty.
    """

    number: int
    start: int
    end: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading's own characters `[start, end)` and its level, 1 the highest."""

    start: int
    end: int
    level: int


@dataclass(frozen=True, slots=True)
class Text:
    """Canonical characters of one parse of one document.

    Pages are in order and do not overlap; what lies between two pages is the separator and belongs to the earlier
    one for `page_at`. `unit` says what a page is, for display ("page 12", "section 3").
    """

    characters: str
    pages: tuple[Page, ...]
    headings: tuple[Heading, ...] = ()
    title: str = ""
    unit: Literal["page", "section"] = "page"

    def __post_init__(self) -> None:
        if not self.pages:
            raise ValueError("a text has at least one page")
        last = 0
        for page in self.pages:
            if not last <= page.start <= page.end <= len(self.characters):
                raise ValueError(f"page {page.number} [{page.start}, {page.end}) is out of order or out of the text")
            last = page.end

    def __len__(self) -> int:
        return len(self.characters)

    def slice(self, span: Span) -> str:
        return self.characters[span.start : span.end]

    def page_at(self, offset: int) -> Page:
        """The page that holds character `offset`; an empty page is never the answer while a full one qualifies."""
        index = max(0, bisect_right(self.pages, offset, key=lambda page: page.start) - 1)
        while index > 0 and self.pages[index].start == self.pages[index].end:
            index -= 1
        return self.pages[index]

    def headings_at(self, offset: int) -> tuple[Heading, ...]:
        """Headings in force at `offset`, outermost first."""
        path: list[Heading] = []
        for heading in self.headings[: bisect_right(self.headings, offset, key=lambda item: item.start)]:
            while path and path[-1].level >= heading.level:
                path.pop()
            path.append(heading)
        return tuple(path)

    def failed_pages(self) -> Iterator[Page]:
        return (page for page in self.pages if page.error is not None)

    @property
    def status(self) -> Literal["whole", "partial"]:
        return "partial" if any(self.failed_pages()) else "whole"
