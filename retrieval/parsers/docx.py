"""DOCX: paragraphs, headings, tables and notes in document order.

Own code on zipfile and lxml: python-docx leaves out text in tables' order, content controls, notes and
insertions, and mammoth writes HTML that would have to be parsed again. Numbers that Word makes up while it
lays out a page (of headings, lists and pages) are nowhere in the file and so not in the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from longleaf.retrieval.parsers.archive import Archive
from longleaf.retrieval.parsers.canonical import collapse
from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.markup import local_name, parse_xml
from longleaf.retrieval.parsers.section import Block, Section, assemble
from longleaf.retrieval.parsers.style import Style, read_styles
from longleaf.retrieval.text import Text

if TYPE_CHECKING:
    from lxml.etree import _Element

DOCUMENT: Final = "word/document.xml"
NOTES: Final = {"footnotereference": "word/footnotes.xml", "endnotereference": "word/endnotes.xml"}
PAGE: Final = 8000
"""Characters a printed page may hold; breaks that leave more between them do not mark the pages."""
# What was deleted, moved away, or tells Word how to compute a field; a fallback repeats its alternative.
SKIPPED: Final = frozenset({"del", "movefrom", "instrtext", "deltext", "fallback", "ppr", "rpr", "sectpr", "tblpr"})
SIGNS: Final = {"tab": "\t", "cr": "\n", "nobreakhyphen": "-"}


@dataclass
class _Walk:
    """Where the reading is: `pages` are blocks between page breaks, `pending` notes still to follow."""

    styles: dict[str, Style]
    notes: dict[tuple[str, str], list[str]]
    pages: list[list[Block]] = field(default_factory=lambda: [[]])
    pending: list[str] = field(default_factory=list)
    title: str = ""


def read(job: Job, on_page: OnPage = ignore_pages) -> Text:
    """The document. Its pages are those that explicit breaks make, if they do so all through; else it has a
    section for each heading of the highest level, or is one section.

    Raises `DocumentError` when the file is damaged, encrypted or has no text.
    """
    with Archive(job) as archive:
        root = parse_xml(job, archive.read(DOCUMENT), DOCUMENT)
        styles = read_styles(job, archive)
        walk = _Walk(styles, _read_notes(job, archive))
        title = _title(job, archive)
    body = next((child for child in root if local_name(child) == "body"), None)
    if body is not None:
        _read_body(body, walk)
    paged = len(walk.pages) > 1 and all(sum(len(b.text) for b in page) <= PAGE for page in walk.pages)
    groups = walk.pages if paged else _by_heading([block for page in walk.pages for block in page])
    if not any(groups):
        raise job.refuse(
            "it is a DOCX without text",
            "If it holds pictures of text, print it to PDF and parse that with --ocr.",
        )
    on_page(len(groups), len(groups))
    sections = [Section(tuple(group)) for group in groups]
    return assemble(job, sections, title=title or walk.title, unit="page" if paged else "section")


def _read_body(body: _Element, walk: _Walk) -> None:
    for child in body:
        name = local_name(child)
        if name == "p":
            _read_paragraph(child, walk)
        elif name == "tbl":
            _read_table(child, walk)
        elif name not in SKIPPED:
            # Content controls, custom XML, insertions and moves wrap paragraphs.
            _read_body(child, walk)


def _read_paragraph(paragraph: _Element, walk: _Walk) -> None:
    properties = next((child for child in paragraph if local_name(child) == "ppr"), None)
    style, level, breaks = _style(properties, walk)
    if breaks:
        _end_page(walk)
    pieces: list[str] = []
    for piece in _pieces(paragraph, walk):
        if piece == "\f":
            _add(walk, "".join(pieces), level, style)
            pieces.clear()
            _end_page(walk)
        else:
            pieces.append(piece)
    _add(walk, "".join(pieces), level, style)
    for note in walk.pending:
        walk.pages[-1].append(Block(note))
    walk.pending.clear()


def _read_table(table: _Element, walk: _Walk) -> None:
    """Each row one line, its cells parted by tabs; the first row stands apart from what is before it."""
    first = True
    for row in _children(table, "tr"):
        cells = []
        for cell in _children(row, "tc"):
            paragraphs = ("".join(_pieces(item, walk)) for item in cell.iter() if local_name(item) == "p")
            cells.append("\n".join(text for part in paragraphs if (text := part.replace("\f", " ").strip())))
        text = "\t".join(cells).strip()
        if text:
            walk.pages[-1].append(Block(text, tight=not first))
            first = False
    for note in walk.pending:
        walk.pages[-1].append(Block(note))
    walk.pending.clear()


def _children(element: _Element, name: str) -> Iterator[_Element]:
    """Children called `name`, also inside content controls and insertions."""
    for child in element:
        found = local_name(child)
        if found == name:
            yield child
        elif found not in SKIPPED and found not in {"tbl", "tr", "tc", "p"}:
            yield from _children(child, name)


def _pieces(element: _Element, walk: _Walk) -> Iterator[str]:
    """The characters of a paragraph; a form feed for a page break. A text box follows in its own line."""
    for child in element:
        name = local_name(child)
        if name in SKIPPED or not name:
            continue
        if name == "t":
            yield child.text or ""
        elif name in SIGNS:
            yield SIGNS[name]
        elif name == "br":
            yield "\f" if _value(child, "type") == "page" else "\n"
        elif name in NOTES:
            key = (name, _value(child, "id"))
            if key in walk.notes:
                mark = f"[{key[1]}]"
                yield mark
                walk.pending += [f"{mark} {text}" for text in walk.notes.pop(key)]
        elif name == "p":
            yield "\n"
            yield from _pieces(child, walk)
        else:
            yield from _pieces(child, walk)


def _style(properties: _Element | None, walk: _Walk) -> tuple[Style, int | None, bool]:
    """The paragraph's style, its heading level, and whether a page begins before it."""
    style, level, breaks = Style(), None, False
    for item in properties if properties is not None else ():
        name = local_name(item)
        if name == "pstyle":
            style = walk.styles.get(_value(item, "val"), style)
        elif name == "outlinelvl" and _value(item, "val").isdecimal():
            level = int(_value(item, "val")) + 1
        elif name == "pagebreakbefore":
            breaks = _value(item, "val") not in {"0", "false", "off"}
    level = level if level is not None else style.level
    return style, level if level is not None and level <= 9 else None, breaks


def _add(walk: _Walk, text: str, level: int | None, style: Style) -> None:
    text = collapse(text) if level is not None else text.strip("\n").rstrip()
    if not text:
        return
    if style.title and not walk.title:
        walk.title = text
    last = walk.pages[-1][-1] if walk.pages[-1] else None
    tight = style.item and last is not None and last.level is None and level is None
    walk.pages[-1].append(Block(text, level, tight))


def _end_page(walk: _Walk) -> None:
    # A break before anything was written would make a page that no printer makes.
    if walk.pages[-1] or len(walk.pages) > 1:
        walk.pages.append([])


def _by_heading(blocks: list[Block]) -> list[list[Block]]:
    top = min((block.level for block in blocks if block.level is not None), default=None)
    groups: list[list[Block]] = [[]]
    for block in blocks:
        if block.level is not None and block.level == top and groups[-1]:
            groups.append([])
        groups[-1].append(block)
    return groups


def _read_notes(job: Job, archive: Archive) -> dict[tuple[str, str], list[str]]:
    """Paragraphs of foot- and endnotes by kind and number; Word's separators are not notes."""
    found: dict[tuple[str, str], list[str]] = {}
    empty = _Walk({}, {})
    for kind, part in NOTES.items():
        if part not in archive.names:
            continue
        for note in parse_xml(job, archive.read(part), part):
            if _value(note, "type") not in {"", "normal"}:
                continue
            texts = ("".join(_pieces(item, empty)) for item in note.iter() if local_name(item) == "p")
            found[kind, _value(note, "id")] = [text.strip() for text in texts if text.strip()]
    return found


def _title(job: Job, archive: Archive) -> str:
    part = "docProps/core.xml"
    if part not in archive.names:
        return ""
    root = parse_xml(job, archive.read(part), part)
    return next(("".join(item.itertext()) for item in root.iter() if local_name(item) == "title"), "").strip()


def _value(element: _Element, name: str) -> str:
    """Attribute `name`, whatever its namespace; "" when it is absent."""
    return next((value for key, value in element.items() if key.rpartition("}")[2] == name), "")
