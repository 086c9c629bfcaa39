"""Parsers measured: libraries against each other, and one text from two formats.

    python bench/parsers.py

Prints Markdown tables and writes bench/out/parsers.json. Documents are read from ../shared/data/demo_docs,
beside the repository, or from $LONGLEAF_SHARED/data/demo_docs. Libraries not installed are left out.

Words are runs of letters and digits, folded (NFKC, lower case). "In order" is the longest common subsequence
of the two word lists; nothing may be moved. Three counts are given. raw: all words. shared: without what one
format prints and the other does not have at all, which are the page numbers behind dot leaders in a printed
table of contents, and the link addresses that one EPUB prints in brackets behind its links. letters: shared,
and without words of digits only, since note 2 of a chapter in print is note 39 of the whole in HTML.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Any

from rapidfuzz.distance import LCSseq

from longleaf.retrieval.parsers import parse

ROUNDS = 3
PRINTED = ("fhs-3.0.pdf", "debian-policy-4.6.2.pdf", "zsh-5.9-manual.pdf")
REFERENCES = {"fhs-3.0.pdf": "fhs-3.0.html", "debian-policy-4.6.2.pdf": "debian-policy-4.6.2.epub"}
OTHERS = (
    "sarif-v2.1.0-committee-specification.docx",
    "leo-tolstoy_war-and-peace_louise-maude_aylmer-maude.epub",
)
CONTENTS_NUMBER = re.compile(r"(\.{4,}|(?: ?\.){4,}) ?(?:\d+|[ivxlc]+)$", re.MULTILINE)
LINK = re.compile(r"\[https?://[^\]\s]*\]")


def main() -> None:
    folder = documents()
    if folder is None:
        sys.exit("No documents: put them in ../shared/data/demo_docs or set LONGLEAF_SHARED.")
    found: dict[str, Any] = {"libraries": libraries(folder), "formats": formats(folder), "ours": ours(folder)}
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    (out / "parsers.json").write_text(json.dumps(found, indent=2) + "\n")


def documents() -> Path | None:
    repository = Path(__file__).resolve().parent.parent
    shared = Path(os.environ.get("LONGLEAF_SHARED", repository.parent / "shared"))
    folder = shared / "data" / "demo_docs"
    return folder if folder.is_dir() else None


def libraries(folder: Path) -> list[dict[str, Any]]:
    """Each library's plain text: time, and the share of its words in order in the reference format."""
    print("## PDF libraries, their plain text as it comes\n")
    print("| library | document | pages | seconds | pages/s | of its words | of the reference's |")
    print("|---|---|--:|--:|--:|--:|--:|")
    rows = []
    for name in PRINTED:
        reference = words(parse(folder / REFERENCES[name]).text.characters) if name in REFERENCES else None
        for library, version, read in readers():
            data = (folder / name).read_bytes()
            seconds, pages = timed(lambda read=read, data=data: read(data), 1 if name.startswith("zsh") else ROUNDS)
            row = {
                "library": library,
                "version": version,
                "document": name,
                "pages": len(pages),
                "seconds": seconds,
            }
            shares = "- | -"
            if reference is not None:
                own = words("\n".join(pages))
                common = in_order(own, reference)
                row |= {"words": len(own), "reference_words": len(reference), "in_order": common}
                shares = f"{common / len(own):.2%} | {common / len(reference):.2%}"
            rows.append(row)
            speed = len(pages) / seconds
            print(f"| {library} {version} | {name} | {len(pages)} | {seconds:.2f} | {speed:.0f} | {shares} |")
    return rows


def readers() -> list[tuple[str, str, Callable[[bytes], list[str]]]]:
    choices: list[tuple[str, str, Callable[[bytes], list[str]]]] = [
        ("pypdfium2", "pypdfium2", read_pdfium),
        ("pypdf", "pypdf", read_pypdf),
        ("pdfminer", "pdfminer.six", read_pdfminer),
        ("pymupdf", "pymupdf", read_mupdf),
    ]
    found = [(dist, metadata.version(dist), read) for module, dist, read in choices if util.find_spec(module)]
    if shutil.which("pdftotext"):
        found.append(("pdftotext", "", read_pdftotext))
    return found


def read_pdfium(data: bytes) -> list[str]:
    import pypdfium2

    document = pypdfium2.PdfDocument(data)
    return [page.get_textpage().get_text_range() for page in document]


def read_pypdf(data: bytes) -> list[str]:
    import pypdf

    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages]


def read_pdfminer(data: bytes) -> list[str]:
    from pdfminer.high_level import extract_text

    return extract_text(io.BytesIO(data)).split("\f")[:-1]


def read_mupdf(data: bytes) -> list[str]:
    import pymupdf

    with pymupdf.open(stream=data, filetype="pdf") as document:
        return [page.get_text() for page in document]


def read_pdftotext(data: bytes) -> list[str]:
    done = subprocess.run(["pdftotext", "-", "-"], input=data, capture_output=True, check=True)
    return done.stdout.decode().split("\f")[:-1]


def formats(folder: Path) -> list[dict[str, Any]]:
    """Our text of one document from two formats."""
    print("\n## One text from two formats, `parse`\n")
    print("| A | B | count | words A | words B | in order | of A | of B | of the smaller |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|")
    rows = []
    for printed, reference in REFERENCES.items():
        texts = [parse(folder / name).text.characters for name in (printed, reference)]
        shared = [LINK.sub("", CONTENTS_NUMBER.sub(r"\1", text)) for text in texts]
        lists = [(count, [words(text) for text in pair]) for count, pair in (("raw", texts), ("shared", shared))]
        lists.append(("letters", [[word for word in found if not word.isdigit()] for found in lists[1][1]]))
        for count, (first, second) in lists:
            common = in_order(first, second)
            row = {
                "a": printed,
                "b": reference,
                "count": count,
                "words_a": len(first),
                "words_b": len(second),
            }
            rows.append(row | {"in_order": common})
            smaller = common / min(len(first), len(second))
            print(
                f"| {printed} | {reference} | {count} | {len(first)} | {len(second)} | {common} | "
                f"{common / len(first):.2%} | {common / len(second):.2%} | {smaller:.2%} |"
            )
    return rows


def ours(folder: Path) -> list[dict[str, Any]]:
    """`parse` as the product calls it, child process included."""
    print("\n## `parse`, child process and layout included\n")
    print("| document | seconds | pages | pages/s | characters | headings |")
    print("|---|--:|--:|--:|--:|--:|")
    rows = []
    for name in (*PRINTED, *REFERENCES.values(), *OTHERS):
        seconds, parsed = timed(partial(parse, folder / name), ROUNDS)
        pages, text = len(parsed.text.pages), parsed.text
        rows.append({"document": name, "seconds": seconds, "pages": pages, "characters": len(text)})
        speed = pages / seconds
        print(f"| {name} | {seconds:.2f} | {pages} | {speed:.0f} | {len(text)} | {len(text.headings)} |")
    return rows


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median seconds of `rounds` runs, and the last run's value."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        value = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), value


def words(text: str) -> list[str]:
    # A hyphen at a line's end is undone for all libraries alike.
    text = re.sub(r"(?<=\w)[-\u00ad\ufffe\x02]\r?\n(?=[a-z])|[\u00ad\ufffe\x02]", "", text)
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())


def in_order(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    return LCSseq.similarity(first, second)


if __name__ == "__main__":
    main()
