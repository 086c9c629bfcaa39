"""Plain text in any encoding."""

from __future__ import annotations

import codecs
import re
from typing import Final

from longleaf.retrieval.parsers.canonical import canonical
from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.section import check_length
from longleaf.retrieval.text import Page, Text

# UTF-32 first: its little-endian mark begins with UTF-16's.
MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE: Final = 128 * 1024


def read(job: Job, on_page: OnPage = ignore_pages) -> Text:
    """The file's characters. Form feeds divide it into pages; without any the file is one section.

    Raises `DocumentError` when there is no text or too much.
    """
    pieces = [canonical(piece) for piece in decode(job.data).split("\f")]
    if not any(piece.strip() for piece in pieces):
        raise job.refuse("it holds only white space", "Choose a file with text in it.")
    while not pieces[-1].strip():
        pieces.pop()
    job.check_pages(len(pieces))
    characters = "\n".join(pieces)
    check_length(job, len(characters))
    pages, start = [], 0
    for number, piece in enumerate(pieces, start=1):
        pages.append(Page(number, start, start + len(piece)))
        start += len(piece) + 1
    on_page(len(pages), len(pages))
    return Text(characters, tuple(pages), unit="page" if len(pages) > 1 else "section")


def decode(data: bytes, declared: str | None = None) -> str:
    """`data` as characters, by byte order mark, then UTF-8, then `declared`, then a guess; never fails.

    What cannot be decoded becomes U+FFFD.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    try:
        if b"\0" not in data:
            return data.decode("utf-8")
    except UnicodeDecodeError:
        if declared is not None and _known(declared):
            return data.decode(declared, errors="replace")
    return data.decode(unmarked_wide(data) or guess(data), errors="replace")


def unmarked_wide(data: bytes) -> str | None:
    """The UTF-16 or UTF-32 byte order that the places of NUL bytes speak for, in a file without a mark."""
    head = data[:4096]
    if head.count(0) < len(head) * 0.2:
        return None
    for encoding, width, low in (
        ("utf-32-le", 4, 0),
        ("utf-32-be", 4, 3),
        ("utf-16-le", 2, 0),
        ("utf-16-be", 2, 1),
    ):
        whole = head[: len(head) // width * width]
        letters = whole[low::width]
        if letters and letters.count(0) == 0 and whole.count(0) > 0.7 * (len(whole) - len(letters)):
            return encoding
    return None


def guess(data: bytes) -> str:
    """The likeliest encoding of bytes that are not Unicode; windows-1252 when nothing speaks for another."""
    from charset_normalizer import from_bytes

    # The letters that tell one encoding from another may come late: sample lines that hold some.
    lines = [line for line in re.split(rb"(?<=\n)", data) if re.search(rb"[\x80-\xff]", line)]
    best = from_bytes((b"".join(lines) or data)[:SAMPLE]).best()
    return best.encoding if best is not None and _known(best.encoding) else "cp1252"


def _known(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding)._is_text_encoding
    except LookupError:
        return False
