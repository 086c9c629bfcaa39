"""Writers of small real files, and the place of the shared documents."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)
STYLES = (
    f'<w:styles xmlns:w="{WORD}"><w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="H2"><w:name w:val="Custom"/><w:basedOn w:val="Two"/></w:style>'
    '<w:style w:styleId="Two"><w:name w:val="heading 2"/></w:style></w:styles>'
)

Placed = tuple[float, float, float, str]
"""x, y, font size in points; text."""


def pdf_bytes(
    pages: Sequence[Sequence[Placed]], *, outline: Sequence[tuple[str, int]] = (), picture: bool = False
) -> bytes:
    """A PDF with Helvetica text at given places. outline: (title, page from 1); picture: on each page."""
    count = len(pages)
    objects = [
        "",
        f"<< /Type /Pages /Count {count} /Kids [{' '.join(f'{4 + 2 * n} 0 R' for n in range(count))}] >>",
    ]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    image = 4 + 2 * count
    for number, lines in enumerate(pages):
        content = "q 612 0 0 792 0 0 cm /Im Do Q\n" if picture else ""
        for x, y, size, text in lines:
            shown = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            content += f"BT /F {size} Tf 1 0 0 1 {x} {y} Tm ({shown}) Tj ET\n"
        names = f"/XObject << /Im {image} 0 R >>" if picture else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            f"/Resources << /Font << /F 3 0 R >> {names} >> >>"
        )
        objects.append(f"<< /Length {len(content.encode('cp1252'))} >>\nstream\n{content}\nendstream")
    if picture:
        objects.append(
            "<< /Type /XObject /Subtype /Image /Width 2 /Height 2 /ColorSpace /DeviceGray "
            "/BitsPerComponent 8 /Length 4 >>\nstream\nABCD\nendstream"
        )
    root = "<< /Type /Catalog /Pages 2 0 R >>"
    if outline:
        first = len(objects) + 2
        objects.append(f"<< /First {first} 0 R /Last {first + len(outline) - 1} 0 R /Count {len(outline)} >>")
        root = f"<< /Type /Catalog /Pages 2 0 R /Outlines {first - 1} 0 R >>"
        for at, (title, page) in enumerate(outline):
            following = f"/Next {first + at + 1} 0 R" if at + 1 < len(outline) else ""
            objects.append(
                f"<< /Title ({title}) /Parent {first - 1} 0 R {following} /Dest [{2 + 2 * page} 0 R /XYZ 0 792 0] >>"
            )
    objects[0] = root
    out, offsets = io.BytesIO(b""), []
    out.write(b"%PDF-1.4\n")
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252"))
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write("".join(f"{offset:010} 00000 n \n" for offset in offsets).encode())
    out.write(f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode())
    return out.getvalue()


def paragraph_lines(lines: Sequence[str], top: float = 700, left: float = 72, size: float = 10) -> list[Placed]:
    return [(left, top - 12 * at, size, line) for at, line in enumerate(lines)]


def zip_bytes(entries: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def docx_bytes(body: str, **parts: str | bytes) -> bytes:
    """A DOCX with `body` inside w:body; `parts` replace or add entries under word/."""
    entries: dict[str, str | bytes] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
        "word/styles.xml": STYLES,
    }
    return zip_bytes(entries | {f"word/{name}.xml": content for name, content in parts.items()})


def epub_bytes(chapters: dict[str, str | bytes], *, spine: Sequence[str] | None = None, **extra: str) -> bytes:
    """An EPUB of XHTML bodies by name. spine: another order; extra: other media types, by name."""
    items = "".join(
        f'<item id="{name}" href="text/{name}.xhtml" media-type="{extra.get(name, "application/xhtml+xml")}"/>'
        for name in chapters
    )
    order = "".join(f'<itemref idref="{name}"/>' for name in (spine if spine is not None else chapters))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>The Book</dc:title></metadata><manifest>{items}</manifest>"
        f"<spine>{order}</spine></package>"
    )
    entries: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "book/package.opf": package,
    }
    for name, body in chapters.items():
        page = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{body}</body></html>'
        entries[f"book/text/{name}.xhtml"] = body if isinstance(body, bytes) else page
    return zip_bytes(entries)


def png_bytes() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


@pytest.fixture(name="write")
def _write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(scope="session")
def documents() -> Path:
    """The shared documents; tests that need them skip without."""
    folder = Path(os.environ.get("LONGLEAF_SHARED", REPOSITORY.parent / "shared")) / "data" / "demo_docs"
    if not folder.is_dir():
        pytest.skip(f"no documents at {folder}; set LONGLEAF_SHARED to the folder that holds data/demo_docs")
    return folder


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make


class Make:
    """The writers, for tests: `--import-mode=importlib` leaves no way to import them."""

    pdf = staticmethod(pdf_bytes)
    lines = staticmethod(paragraph_lines)
    docx = staticmethod(docx_bytes)
    epub = staticmethod(epub_bytes)
    zip = staticmethod(zip_bytes)
    png = staticmethod(png_bytes)
