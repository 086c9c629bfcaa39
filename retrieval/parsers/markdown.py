"""Markdown: the file's own characters, with its headings located.

The source is kept and not rendered: a quote must be found in what the author wrote.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.plain import read as read_plain
from longleaf.retrieval.text import Heading, Text


def read(job: Job, on_page: OnPage = ignore_pages) -> Text:
    """The file as one section. Raises `DocumentError` when there is no text or too much."""
    from markdown_it import MarkdownIt

    plain = read_plain(job, on_page)
    tokens = MarkdownIt("commonmark").parse(plain.characters)
    starts = [0, *accumulate(len(line) + 1 for line in plain.characters.split("\n"))]
    headings = []
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open" or opening.map is None or not inline.content:
            continue
        first, after = opening.map
        # The content may span lines (setext) whose indentation is stripped: find its first and last line.
        lines = inline.content.split("\n")
        start = plain.characters.find(lines[0], starts[first], starts[after])
        last = plain.characters.rfind(lines[-1], starts[first], starts[after])
        if lines[0] == lines[-1]:
            last = start
        if 0 <= start <= last:
            headings.append(Heading(start, last + len(lines[-1]), int(opening.tag[1])))
    title = next((plain.characters[item.start : item.end] for item in headings), "")
    return Text(plain.characters, plain.pages, tuple(headings), " ".join(title.split()), plain.unit)
