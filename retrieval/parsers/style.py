"""`Style`: what a DOCX paragraph style says of its paragraphs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from longleaf.retrieval.parsers.archive import Archive
from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.parsers.markup import local_name, parse_xml

if TYPE_CHECKING:
    from lxml.etree import _Element

STYLES: Final = "word/styles.xml"


@dataclass(frozen=True, slots=True)
class Style:
    """`level` of the heading it makes; `title`: it is the document's; `item`: it makes list items or code."""

    level: int | None = None
    title: bool = False
    item: bool = False


def read_styles(job: Job, archive: Archive) -> dict[str, Style]:
    """Styles by id, each with what it inherits. A document without styles has none."""
    if STYLES not in archive.names:
        return {}
    root = parse_xml(job, archive.read(STYLES), STYLES)
    raw = {_attribute(item, "styleId"): item for item in root if local_name(item) == "style"}
    return {name: _resolve(name, raw) for name in raw}


def _resolve(name: str, raw: dict[str, _Element]) -> Style:
    level, title, item = None, False, False
    seen: set[str] = set()
    while name in raw and name not in seen:
        seen.add(name)
        following = ""
        for child in raw[name].iter():
            kind, value = local_name(child), _attribute(child, "val")
            if kind == "name":
                heading = re.fullmatch(r"heading (\d)", value, re.IGNORECASE)
                level = int(heading.group(1)) if heading and level is None else level
                title = title or value.casefold() == "title"
                item = item or re.match(r"list|code|preformatted|html pre", value.casefold()) is not None
            elif kind == "outlinelvl" and value.isdecimal() and level is None:
                level = int(value) + 1
            elif kind == "basedon":
                following = value
        name = following
    return Style(level if level is None or level <= 9 else None, title, item)


def _attribute(element: _Element, name: str) -> str:
    return next((value for key, value in element.items() if key.rpartition("}")[2] == name), "")
