"""XML and HTML into element trees: no external entities, no network, bounded depth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.entities import html5
from typing import TYPE_CHECKING, Final

from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.parsers.plain import decode

if TYPE_CHECKING:
    from lxml import etree
    from lxml.etree import _Element

KEPT_ENTITIES: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})


def parse_xml(job: Job, data: bytes, part: str) -> _Element:
    """The root of an XML part of `job`'s file. Entities are never expanded.

    Raises `DocumentError` when it is not well-formed or too deep.
    """
    from lxml import etree

    try:
        root = etree.fromstring(data, _xml_parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _malformed(job, part, error) from error
    check_depth(job, root)
    return root


def parse_xhtml(job: Job, data: bytes, part: str) -> _Element:
    """The root of an XHTML part; one that is not well-formed is read as HTML."""
    from lxml import etree

    try:
        # Named HTML entities are only defined by a DTD, which is never loaded.
        root = etree.fromstring(re.sub(rb"&(\w+);", _entity, data), _xml_parser())
    except (etree.XMLSyntaxError, ValueError):
        return parse_html(job, data, part)
    check_depth(job, root)
    return root


def parse_html(job: Job, data: bytes, part: str) -> _Element:
    """The root of an HTML document, however badly written.

    Raises `DocumentError` when nothing can be made of it or it is too deep.
    """
    from lxml import etree

    declared = re.search(rb"""charset\s*=\s*["']?([\w.:-]+)|<\?xml[^>]*encoding=["']([\w.-]+)""", data[:4096])
    name = (declared.group(1) or declared.group(2)).decode("ascii") if declared else None
    source = decode(data, name).replace("\0", "")
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, huge_tree=False)
    try:
        # An XML declaration may name another encoding than the UTF-8 given here.
        root = etree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", source).encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, etree.ParserError, ValueError) as error:
        raise _malformed(job, part, error) from error
    if root is None:
        raise job.refuse(f"{part} holds no HTML", "Check that this is the file you meant.")
    check_depth(job, root)
    return root


def check_depth(job: Job, root: _Element) -> None:
    """Raises `DocumentError` when elements nest deeper than `Limits.depth`."""
    depth = 0
    for event in _events(root):
        depth += 1 if event == "start" else -1
        if depth > job.limits.depth:
            raise job.refuse(
                f"its elements nest deeper than the {job.limits.depth} levels allowed",
                "If you trust the file, raise Limits.depth.",
            )


def local_name(element: _Element) -> str:
    """The element's name without its namespace, in lower case; "" for comments, entities and instructions."""
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _events(root: _Element) -> Iterator[str]:
    from lxml import etree

    for event, _ in etree.iterwalk(root, events=("start", "end")):
        yield str(event)


def _xml_parser() -> etree.XMLParser:
    from lxml import etree

    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )


def _entity(match: re.Match[bytes]) -> bytes:
    name = match.group(1).decode("ascii", "replace")
    letters = html5.get(name + ";")
    return match.group(0) if name in KEPT_ENTITIES or letters is None else letters.encode("utf-8")


def _malformed(job: Job, part: str, error: Exception) -> Exception:
    return job.refuse(f"{part} cannot be parsed ({error})", "Get a whole copy of the file, or convert it to PDF.")
