"""`Format`: what a file is, by its content first and its name second."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Literal

from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.parsers.plain import MARKS, decode, unmarked_wide

Name = Literal["pdf", "docx", "epub", "html", "markdown", "text"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that Longleaf reads."""

    name: Name
    mime: str


PDF: Final = Format("pdf", "application/pdf")
DOCX: Final = Format("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document")
EPUB: Final = Format("epub", "application/epub+zip")
HTML: Final = Format("html", "text/html")
MARKDOWN: Final = Format("markdown", "text/markdown")
TEXT: Final = Format("text", "text/plain")

READABLE: Final = "Longleaf reads PDF, DOCX, EPUB, HTML, Markdown and plain text; convert it to one of these."
OCR: Final = "For a picture of text, put it in a PDF and parse that with OCR (pip install 'longleaf[ocr]', --ocr)."
CLAIMS: Final = {".pdf": "a PDF", ".docx": "a DOCX", ".epub": "an EPUB", ".doc": "a Word document"}
PICTURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"BM", "a BMP picture"),
    (b"AT&TFORM", "a DjVu document"),
)
OTHERS: Final = (
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"RIFF", "a RIFF (WebP, WAV or AVI) file"),
)
ZIPPED: Final = (
    ("ppt/presentation.xml", "a PowerPoint presentation"),
    ("xl/workbook.xml", "an Excel workbook"),
    ("xl/workbook.bin", "an Excel workbook"),
)


def sniff(job: Job) -> Format:
    """The format of `job`'s file. Raises `DocumentError`, saying what it is, when there is no parser."""
    head = job.data[:1024]
    if head.lstrip(b"\xef\xbb\xbf\r\n\t \0").startswith(b"%PDF-") or (
        b"%PDF-" in head and b"startxref" in job.data[-2048:]
    ):
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return _zipped(job)
    if head.startswith(b"PK\x05\x06"):
        raise job.refuse(_mismatch(job, "an empty zip archive"), READABLE)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise _compound(job)
    if _binary(job.data):
        raise _unreadable(job)
    return _written(job)


def _written(job: Job) -> Format:
    suffix = PurePath(job.name).suffix.lower()
    start = decode(job.data[:4096]).lstrip().lower()
    if re.match(r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", start, re.DOTALL):
        return HTML
    if job.data.startswith(b"{\\rtf") or job.data.startswith(b"%!PS"):
        raise _unreadable(job)
    if suffix in CLAIMS:
        raise job.refuse(
            f"it is named {suffix} but is not {CLAIMS[suffix]}: it holds plain text",
            "Get a whole copy of the file, or rename it to .txt to read it as text.",
        )
    if suffix in {".html", ".htm", ".xhtml", ".xht"}:
        return HTML
    return MARKDOWN if suffix in {".md", ".markdown", ".mdown", ".mkd"} else TEXT


def _zipped(job: Job) -> Format:
    try:
        with zipfile.ZipFile(io.BytesIO(job.data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise job.refuse(
            f"it is a damaged or truncated zip archive ({error})",
            "A DOCX or EPUB is such an archive: get a whole copy of the file.",
        ) from error
    if "word/document.xml" in names or ("[Content_Types].xml" in names and "word/styles.xml" in names):
        return DOCX
    if "META-INF/container.xml" in names:
        return EPUB
    kind = next((kind for name, kind in ZIPPED if name in names), None)
    if kind is None:
        kind = "an OpenDocument file" if {"content.xml", "META-INF/manifest.xml"} <= names else "a zip archive"
    raise job.refuse(_mismatch(job, kind), READABLE)


def _compound(job: Job) -> Exception:
    if "EncryptedPackage".encode("utf-16-le") in job.data:
        return job.refuse(
            "it is encrypted; reading it needs its password",
            "Open it in an office program with the password and save a copy without one.",
        )
    return job.refuse(
        _mismatch(job, "a document of an old office format (.doc, .xls or .ppt)"),
        "Save it as DOCX or PDF and read that.",
    )


def _binary(data: bytes) -> bool:
    if any(data.startswith(mark) for mark, _ in MARKS):
        return False
    if any(data.startswith(magic) for magic, _ in PICTURES[:-2]):
        return True
    sample = data[:65536]
    if unmarked_wide(sample) is not None:
        return False
    controls = len(re.findall(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]", sample))
    return controls > len(sample) * 0.005


def _unreadable(job: Job) -> Exception:
    for magic, kind in PICTURES:
        if job.data.startswith(magic):
            return job.refuse(_mismatch(job, kind), OCR)
    kind = next((kind for magic, kind in OTHERS if job.data.startswith(magic)), "")
    if not kind and job.data[4:8] == b"ftyp":
        kind = "an MP4, MOV or HEIC file"
    if not kind and job.data[60:68] in {b"BOOKMOBI", b"TEXtREAd"}:
        kind = "a Mobipocket (Kindle) book"
    return job.refuse(_mismatch(job, kind or "binary data of no known kind"), READABLE)


def _mismatch(job: Job, kind: str) -> str:
    suffix = PurePath(job.name).suffix.lower()
    claim = CLAIMS.get(suffix)
    return f"it is named {suffix} but is {kind}, not {claim}" if claim else f"it is {kind}"
