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
WESTERN: Final = "cp1252"
# What Western text is mistaken for, since the two share most letters.
LATIN: Final = ("cp1250", "cp1254", "cp1257")
# What text files are written in. Left to all it knows, the detector takes French for mac_latin2.
LIKELY: Final = (
    *(
        WESTERN,
        *LATIN,
        "cp1251",
        "cp1253",
        "cp1255",
        "cp1256",
        "cp1258",
        "cp874",
        "koi8_r",
        "koi8_u",
        "cp866",
    ),
    *("iso8859_2", "iso8859_5", "iso8859_7", "cp932", "euc_jp", "iso2022_jp", "gb18030", "big5", "cp949"),
)


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
    matches = list(from_bytes((b"".join(lines) or data)[:SAMPLE], cp_isolation=list(LIKELY)))
    best = matches[0] if matches else None
    western = next((match for match in matches if match.encoding == WESTERN), None)
    if best is None or (best.encoding in LATIN and western and western.coherence > best.coherence - 0.05):
        return WESTERN
    return best.encoding if _known(best.encoding) else WESTERN


def _known(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding)._is_text_encoding
    except LookupError:
        return False
