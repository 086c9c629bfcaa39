"""HTML: the text a browser would show, in order, without navigation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from longleaf.retrieval.parsers.canonical import canonical, collapse
from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.markup import local_name, parse_html
from longleaf.retrieval.parsers.notes import move_notes
from longleaf.retrieval.parsers.section import Block, Section, assemble
from longleaf.retrieval.text import Text

if TYPE_CHECKING:
    from lxml.etree import _Element

HIDDEN: Final = frozenset(
    [
        "script",
        "style",
        "template",
        "head",
        "noscript",
        "nav",
        "iframe",
        "object",
        "embed",
        "audio",
        "video",
        "canvas",
        "select",
        "datalist",
        "button",
        "input",
        "textarea",
        "colgroup",
        "map",
    ]
)
LEVELS: Final = {f"h{level}": level for level in range(1, 7)}
PARAGRAPHS: Final = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "main",
        "menu",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "ul",
    ]
)
LISTS: Final = frozenset({"ol", "ul", "menu"})
# These begin a line, mostly without a blank one before it.
LINES: Final = frozenset({"li", "tr", "dd"})
# These end a block even in a table cell.
STRONG: Final = frozenset({"pre", "table"}) | LISTS
CELLS: Final = frozenset({"td", "th"})


def read(job: Job, on_page: OnPage = ignore_pages) -> Text:
    """The file as one section. Raises `DocumentError` when nothing of it is text."""
    root = parse_html(job, job.data, "its HTML")
    blocks = read_blocks(root)
    if not blocks:
        raise job.refuse(
            "its HTML shows no text",
            "A page that a script fills must be saved from a browser or printed to PDF.",
        )
    on_page(1, 1)
    return assemble(job, [Section(blocks)], title=title_of(root, blocks), unit="section")


def title_of(root: _Element, blocks: Iterable[Block]) -> str:
    """The `<title>`, else the first heading, else ""."""
    title = next((element for element in root.iter() if local_name(element) == "title"), None)
    found = collapse("".join(title.itertext())) if title is not None else ""
    return found or next((block.text for block in blocks if block.level is not None), "")


def read_blocks(root: _Element) -> tuple[Block, ...]:
    """The blocks of an HTML or XHTML tree, each footnote after the block that refers to it."""
    from lxml import etree

    move_notes(root)
    flow = _Flow()
    hidden = 0
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        name = local_name(element)
        if event == "start":
            hidden += hidden > 0 or is_hidden(element, name)
            if not hidden:
                flow.open(name, element)
                flow.write(element.text)
        else:
            if event == "end" and not hidden:
                flow.close(name)
            hidden -= event == "end" and hidden > 0
            if not hidden and element is not root:
                flow.write(element.tail)
    flow.flush()
    return tuple(flow.blocks)


def is_hidden(element: _Element, name: str) -> bool:
    style = re.sub(r"\s", "", element.get("style") or "").lower()
    return name in HIDDEN or not name or element.get("hidden") is not None or "display:none" in style


@dataclass
class _Flow:
    """Gathers inline text into blocks while the tree is walked.

    `marker` is the number before a list item, `tight` the next block's, `lists` the next number of each open
    list (None for bullets), `cell` the number of cells in the open table row, None outside a row.
    """

    blocks: list[Block] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    lists: list[int | None] = field(default_factory=list)
    level: int | None = None
    cell: int | None = None
    pre: int = 0
    marker: str = ""
    tight: bool = False
    fresh: bool = True

    def write(self, text: str | None) -> None:
        if text:
            self.pieces.append(text if self.pre else re.sub(r"[ \t\r\n\f]+", " ", text))

    def open(self, name: str, element: _Element) -> None:
        if name in PARAGRAPHS:
            self.divide(name)
        if name in LEVELS:
            self.flush()
            self.level = LEVELS[name]
        elif name == "pre":
            self.pre += 1
        elif name in LISTS or name == "table":
            self.fresh = not (name in LISTS and self.lists)
            if name in LISTS:
                start = element.get("start") or "1"
                self.lists.append((int(start) if start.isdecimal() else 1) if name == "ol" else None)
        elif name in LINES:
            self.begin_line(name)
        elif name in CELLS:
            if self.cell:
                self.pieces.append("\t")
            self.cell = (self.cell or 0) + 1
        elif name == "br":
            self.pieces.append("\n")

    def close(self, name: str) -> None:
        if name in LINES or name == "table":
            self.flush()
            self.cell = None
        elif name in PARAGRAPHS or name in LEVELS:
            self.divide(name)
        if name in LEVELS:
            self.level = None
        elif name == "pre":
            self.pre -= 1
        elif name in LISTS and self.lists:
            self.lists.pop()
        if name in LISTS or name == "table":
            self.marker, self.tight = "", False

    def begin_line(self, name: str) -> None:
        self.flush()
        self.tight = not self.fresh
        self.fresh = False
        self.cell = 0 if name == "tr" else None
        if name == "li" and self.lists and (number := self.lists[-1]) is not None:
            # A browser shows this number, and so does the same text printed.
            self.marker = f"{number}. "
            self.lists[-1] = number + 1
        elif name == "dd":
            self.tight = True

    def divide(self, name: str) -> None:
        """Ends a block, or only a line inside a table cell, so that a row stays one block."""
        if self.cell is not None and name not in STRONG:
            self.pieces.append("\n")
        else:
            self.flush()

    def flush(self) -> None:
        text = "".join(self.pieces)
        self.pieces.clear()
        if self.pre:
            text = text.rstrip().lstrip("\n")
        else:
            text = re.sub(r" *\t[ \n]*", "\t", re.sub(r" *\n[ \n]*", "\n", text)).strip(" \n")
            text = re.sub(r"\n*\t", "\t", re.sub(r" {2,}", " ", text))
        if not canonical(text).strip():
            return
        if self.level is not None:
            text = collapse(text)
        self.blocks.append(Block(self.marker + text, self.level, self.tight))
        self.marker, self.tight = "", False
