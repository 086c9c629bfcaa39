"""Files into `Text`: PDF, DOCX, EPUB, HTML, Markdown and plain text.

`parse` finds the format by content, reads PDF, DOCX, EPUB and HTML in a child process under `Limits`, and
gives a `Parsed`. docs/parsing.md says what each parser keeps, joins and leaves out. Public names: `parse`,
`Parsed`, `Limits`.
"""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import Final

from longleaf.retrieval.parsers.child import read_in_child
from longleaf.retrieval.parsers.format import Name, sniff
from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.limits import DEFAULT_LIMITS, Limits
from longleaf.retrieval.parsers.parsed import Parsed

__all__ = ["Limits", "Parsed", "parse"]

LIBRARIES: Final[dict[Name, str]] = {
    "pdf": "pypdfium2",
    "docx": "lxml",
    "epub": "lxml",
    "html": "lxml",
    "markdown": "markdown-it-py",
    "text": "charset-normalizer",
}
REVISION: Final = 1
"""Raised with every change that can change the characters of any document."""


def parse(path: Path, *, limits: Limits = DEFAULT_LIMITS, on_page: OnPage | None = None, ocr: bool = False) -> Parsed:
    """The text of the file at `path`, with its pages and headings.

    on_page is called with (pages done, pages in all). `ocr` reads a PDF of pictures by OCR, where no page
    has text. `Parsed.text.status` is "partial" when a page could not be read. Raises `DocumentError`, which
    names the file, the reason and what to do, and `MissingExtra` when OCR is asked for but not installed.
    """
    path = Path(path)
    job = Job(str(path), b"", limits, ocr)
    data = _load(job, path)
    job = Job(job.name, data, limits, ocr)
    format_ = sniff(job)
    if format_.name in {"text", "markdown"}:
        from longleaf.retrieval.parsers.worker import reader

        text = reader(format_.name)(job, on_page or ignore_pages)
    else:
        text = read_in_child(job, format_, on_page or ignore_pages)
    used = [LIBRARIES[format_.name], *(["rapidocr"] if ocr and format_.name == "pdf" else [])]
    version = f"{REVISION} ({', '.join(f'{name} {_version(name)}' for name in used)})"
    return Parsed(text, format_.mime, format_.name, version, hashlib.sha256(data).hexdigest(), len(data))


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "absent"  # RapidOCR, for a document that turned out not to need it


def _load(job: Job, path: Path) -> bytes:
    """The file's bytes, read once: what is hashed is what is parsed."""
    try:
        if path.is_dir():
            raise job.refuse("it is a folder, not a file", "Name a file in it.")
        if not path.is_file():
            reason = "it is not a regular file" if path.exists() else "there is no such file"
            raise job.refuse(reason, f"Check the path; the working folder is {os.getcwd()}.")
        size = path.stat().st_size
        if size > job.limits.file_bytes:
            raise job.refuse(
                f"it has {size} bytes, more than the {job.limits.file_bytes} allowed",
                "Split the file, or raise Limits.file_bytes.",
            )
        data = path.read_bytes()
    except PermissionError as error:
        raise job.refuse(
            "you have no permission to read it", "Change its permissions (chmod u+r), or copy it."
        ) from error
    except OSError as error:
        raise job.refuse(f"it cannot be read ({error.strerror or error})", "Check the disk and the path.") from error
    if not data:
        raise job.refuse("it is empty (0 bytes)", "Get a whole copy of the file.")
    return data
