"""`Section` and `Block`: what a parser found, before it becomes a `Text`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longleaf.retrieval.parsers.canonical import canonical, collapse
from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.text import Heading, Page, Text


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, table row or line. `level` makes it a heading, `tight` leaves no gap."""

    text: str
    level: int | None = None
    tight: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """The blocks of one page or section, or why there are none."""

    blocks: tuple[Block, ...] = ()
    error: str | None = None


def assemble(
    job: Job, sections: Sequence[Section], *, title: str = "", unit: Literal["page", "section"] = "page"
) -> Text:
    """The sections as one `Text`, a blank line between blocks and between sections; one `Page` for each
    section.

    Raises `DocumentError` when the text passes `Limits.characters` or there are more sections than
    `Limits.pages`.
    """
    job.check_pages(len(sections))
    parts: list[str] = []
    pages: list[Page] = []
    headings: list[Heading] = []
    length = 0
    for number, section in enumerate(sections, start=1):
        start, first = length, True
        for block in section.blocks if section.error is None else ():
            text = canonical(block.text)
            if not text.strip():
                continue
            if parts:
                separator = "\n" if block.tight and not first else "\n\n"
                parts.append(separator)
                length += len(separator)
            if first:
                start, first = length, False
            if block.level is not None:
                headings.append(Heading(length, length + len(text), block.level))
            parts.append(text)
            length += len(text)
            check_length(job, length)
        pages.append(Page(number, start, length, section.error))
    return Text("".join(parts), tuple(pages), tuple(headings), collapse(canonical(title)), unit)


def check_length(job: Job, length: int) -> None:
    """Raises `DocumentError` when `length` characters are too many."""
    if length > job.limits.characters:
        raise job.refuse(
            f"its text has more than the {job.limits.characters} characters allowed",
            "Split the file, or raise Limits.characters.",
        )
