"""PDF, read by pdfium."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from longleaf.retrieval.parsers.furniture import remove_furniture
from longleaf.retrieval.parsers.job import Job, OnPage, ignore_pages
from longleaf.retrieval.parsers.layout import lay_out
from longleaf.retrieval.parsers.line import Line, read_lines
from longleaf.retrieval.parsers.ocr import load_engine, recognise
from longleaf.retrieval.parsers.outline import Entry, clean_title
from longleaf.retrieval.parsers.section import assemble
from longleaf.retrieval.text import Text

TAIL: Final = 65536
PICTURE: Final = "it is a picture without text; `pip install 'longleaf[ocr]'`, then --ocr reads it"
LOOKED_AT: Final = 16
"""Pages looked at for pictures, to say why there is no text."""


def read(job: Job, on_page: OnPage = ignore_pages) -> Text:
    """One page for each page of the file; a page that cannot be read, a scan among them, is empty and holds its error.

    Raises `DocumentError` when the file is damaged, needs a password, or no page has text.
    """
    document = open_document(job)
    try:
        total = len(document)
        job.check_pages(total)
        on_page(0, total)
        entries = read_outline(document)
        pages: list[list[Line] | str] = []
        engine: Any = None
        for number in range(1, total + 1):
            page = read_page(job, document, number)
            if job.ocr and not page:
                engine = engine or load_engine(job)
                page = recognise(engine, document[number - 1])
            pages.append(page)
            on_page(number, total)
        title = clean_title(document.get_metadata_value("Title"), job.name)
        if not any(isinstance(page, list) and page for page in pages):
            raise _no_text(job, document, pages)
        pages = [PICTURE if page == [] and _is_picture(document, index) else page for index, page in enumerate(pages)]
    finally:
        document.close()
    sections = lay_out(remove_furniture(pages), entries)
    return assemble(job, sections, title=title, unit="page")


def open_document(job: Job) -> Any:
    """The pypdfium2 document. Raises `DocumentError` when it is damaged, encrypted or has no pages."""
    import pypdfium2 as pdfium

    if b"%%EOF" not in job.data[-TAIL:] and b"startxref" not in job.data[-TAIL:]:
        raise job.refuse(
            "it is a truncated PDF (its end is missing)",
            "Get a whole copy, or repair it (for example with qpdf).",
        )
    try:
        document = pdfium.PdfDocument(job.data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise job.refuse(
                "it is encrypted; reading it needs its password",
                "Save a copy without a password (`qpdf --decrypt --password=... in.pdf out.pdf`).",
            ) from error
        raise job.refuse(
            f"it is a damaged PDF ({error})", "Get a whole copy, or repair it (for example with qpdf)."
        ) from error
    if len(document) == 0:
        raise job.refuse("it is a PDF without pages", "Check that this is the file you meant.")
    return document


def read_page(job: Job, document: Any, number: int) -> list[Line] | str:
    """The lines of page `number`, from 1, or the reason why it cannot be read."""
    import pypdfium2 as pdfium

    if number in job.skip:
        return "the PDF library crashed on this page"
    try:
        page = document[number - 1]
        text = page.get_textpage()
        lines = read_lines(text)
        text.close()
        page.close()
    except (pdfium.PdfiumError, UnicodeDecodeError, ctypes.ArgumentError) as error:
        return f"the page cannot be read ({error})"
    return lines


def read_outline(document: Any) -> tuple[Entry, ...]:
    """The bookmarks that point to a page."""
    import pypdfium2 as pdfium

    entries = []
    try:
        for item in document.get_toc(max_depth=12):
            target = item.get_dest()
            index = target.get_index() if target is not None else None
            if index is not None:
                view = target.get_view()[1]
                entries.append(Entry(item.get_title(), item.level + 1, index, view[1] if len(view) > 1 else None))
    except pdfium.PdfiumError:
        return ()
    return tuple(entries)


def _is_picture(document: Any, index: int) -> bool:
    from pypdfium2 import raw

    return any(True for _ in document[index].get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3))


def _no_text(job: Job, document: Any, pages: list[list[Line] | str]) -> Exception:
    errors = [page for page in pages if isinstance(page, str)]
    if len(errors) == len(pages):
        return job.refuse(
            f"none of its {len(pages)} pages can be read: {errors[0]}", "Repair it, for example with qpdf."
        )
    for index in range(min(len(document), LOOKED_AT)):
        if _is_picture(document, index):
            return job.refuse(
                f"its {len(pages)} pages are pictures without text, as a scanner makes them; it needs OCR",
                "OCR found none." if job.ocr else "Run `pip install 'longleaf[ocr]'` and parse it again with --ocr.",
            )
    return job.refuse(
        f"its {len(pages)} pages hold no text",
        "If a viewer shows text, it is drawn as shapes: `pip install 'longleaf[ocr]'`, then --ocr.",
    )
