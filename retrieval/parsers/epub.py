"""EPUB: one section for each item of the spine, in its order.

Own code on zipfile and lxml rather than ebooklib: ebooklib is AGPL, unpacks every entry whatever its size,
and gives markup, which would still have to be made text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from longleaf.retrieval.errors import DocumentError
from longleaf.retrieval.parsers.archive import Archive, within
from longleaf.retrieval.parsers.html import read_blocks
from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.markup import local_name, parse_xhtml, parse_xml
from longleaf.retrieval.parsers.section import Section, assemble
from longleaf.retrieval.text import Text

if TYPE_CHECKING:
    from lxml.etree import _Element

CONTAINER: Final = "META-INF/container.xml"
WRITTEN: Final = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document"})
# Fonts may be scrambled without the text being locked.
FONT_SCRAMBLING: Final = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")


def read(job: Job, on_page: OnPage = ignore_pages) -> Text:
    """The book. An item of the spine that is no text (a picture) is an empty section, a broken one has its
    error.

    Raises `DocumentError` when the book is damaged, encrypted, or has no text.
    """
    with Archive(job) as archive:
        _check_rights(job, archive)
        package = _package_name(job, archive)
        root = parse_xml(job, archive.read(package), package)
        items = {item.get("id"): item for item in _named(root, "item")}
        spine = [items.get(reference.get("idref")) for reference in _named(root, "itemref")]
        if not spine:
            raise job.refuse("its spine, the list of its chapters, is empty", "Get a whole copy of the book.")
        job.check_pages(len(spine))
        sections = []
        for number, item in enumerate(spine, start=1):
            sections.append(_section(job, archive, package, item))
            on_page(number, len(spine))
    text = assemble(job, sections, title=_title(root), unit="section")
    if not text.characters:
        reason = next((section.error for section in sections if section.error), "its chapters are pictures or empty")
        raise job.refuse(f"no text was found: {reason}", "Check the book in a reader, or use its PDF.")
    return text


def _section(job: Job, archive: Archive, package: str, item: _Element | None) -> Section:
    if item is None:
        return Section(error="the spine names an item that the book does not list")
    name = within(package, unquote((item.get("href") or "").partition("#")[0]))
    if item.get("media-type") not in WRITTEN:
        return Section()
    if name not in archive.names:
        return Section(error=f"the book lists {name} but does not hold it")
    data = archive.read(name)
    try:
        return Section(read_blocks(parse_xhtml(job, data, name)))
    except DocumentError as error:
        return Section(error=str(error))


def _check_rights(job: Job, archive: Archive) -> None:
    encryption = "META-INF/encryption.xml"
    if "META-INF/rights.xml" not in archive.names and encryption not in archive.names:
        return
    root = parse_xml(job, archive.read(encryption), encryption) if encryption in archive.names else None
    methods = [(method.get("Algorithm") or "").encode() for method in _named(root, "EncryptionMethod")]
    if root is None or any(method not in FONT_SCRAMBLING for method in methods):
        raise job.refuse("it is encrypted (DRM); only its own reader can open it", "Get a copy without DRM.")


def _package_name(job: Job, archive: Archive) -> str:
    root = parse_xml(job, archive.read(CONTAINER), CONTAINER)
    name = next((entry.get("full-path") for entry in _named(root, "rootfile")), None)
    if not name:
        raise job.refuse(f"{CONTAINER} names no package file", "Get a whole copy of the book.")
    return name


def _title(root: _Element) -> str:
    return next(("".join(element.itertext()) for element in _named(root, "title")), "")


def _named(root: _Element | None, name: str) -> list[_Element]:
    return [] if root is None else [element for element in root.iter() if local_name(element) == name.lower()]
