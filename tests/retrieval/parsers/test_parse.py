"""`parse`: formats by content, refusals that say what to do, the child process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time

import pytest

from longleaf.engine.errors import MissingExtra
from longleaf.retrieval.errors import DocumentError
from longleaf.retrieval.parsers import Limits, parse
from longleaf.retrieval.parsers.child import read_in_child
from longleaf.retrieval.parsers.format import PDF
from longleaf.retrieval.parsers.job import Job

BOMB = b"<p>" + b" " * 40_000_000 + b"</p>"


def refusal(path, **options):
    with pytest.raises(DocumentError) as caught:
        parse(path, **options)
    message = str(caught.value)
    assert str(path) in message
    return message.removeprefix(str(path))


def test_records_what_was_parsed(write):
    data = b"Longleaf reads.\n"
    parsed = parse(write("a.txt", data))
    assert (parsed.mime, parsed.parser, parsed.bytes) == ("text/plain", "text", len(data))
    assert parsed.sha256 == hashlib.sha256(data).hexdigest()
    assert "charset-normalizer" in parsed.parser_version


def test_content_is_believed_before_the_name(write, make):
    parsed = parse(write("report.txt", make.pdf([make.lines(["Really a PDF."])])))
    assert parsed.mime == "application/pdf"
    assert parsed.text.characters == "Really a PDF."
    assert parse(write("book.zip", make.epub({"a": "<p>Words</p>"}))).mime == "application/epub+zip"
    assert parse(write("page.txt", b"<!DOCTYPE html><p>Shown")).mime == "text/html"


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b"", "0 bytes"),
        ("a.txt", b" \n\t ", "only white space"),
        ("a.bin", bytes(range(256)) * 40, "binary data"),
        ("a.pdf", b"Dear reader, no PDF.", "it is named .pdf but is not a PDF: it holds plain text"),
        ("a.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog", "truncated"),
        ("a.pdf", b"%PDF-1.7\nnothing else\nstartxref\n0\n%%EOF", "damaged PDF"),
        ("a.docx", b"PK\x03\x04" + b"\1" * 60, "damaged or truncated zip"),
        ("a.rtf", rb"{\rtf1 words}", "RTF"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old office format"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
            "password",
        ),
        ("a.exe", b"MZ" + bytes(500), "Windows program"),
        ("a.html", b"<html><script>var x = 1</script></html>", "shows no text"),
    ],
)
def test_refuses_bad_files(write, name, data, words):
    assert words in refusal(write(name, data))


def test_says_what_a_mislabelled_file_is(write, make):
    message = refusal(write("scan.pdf", make.png()))
    assert "it is named .pdf but is a PNG picture, not a PDF" in message
    assert "OCR" in message
    sheet = make.zip({"xl/workbook.xml": "<x/>"})
    assert "is an Excel workbook, not a DOCX" in refusal(write("sheet.docx", sheet))


def test_refuses_missing_and_folder(tmp_path):
    assert "there is no such file" in refusal(tmp_path / "none.pdf")
    assert "it is a folder" in refusal(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_refuses_unreadable(write):
    path = write("secret.txt", b"words")
    path.chmod(0)
    assert "no permission" in refusal(path)


def test_permission_error_is_explained(write, monkeypatch):
    path = write("secret.txt", b"words")

    def refuse(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    assert "no permission" in refusal(path)


def test_refuses_encrypted_pdf(write, make):
    pypdf = pytest.importorskip("pypdf", reason="pypdf encrypts the file")
    writer = pypdf.PdfWriter(clone_from=write("a.pdf", make.pdf([make.lines(["Secret."])])))
    writer.encrypt("password", algorithm="RC4-128")
    path = write("b.pdf", b"")
    writer.write(path)
    assert "needs its password" in refusal(path)


def test_refuses_pdf_without_text(write, make):
    assert "hold no text" in refusal(write("a.pdf", make.pdf([[], []])))
    message = refusal(write("b.pdf", make.pdf([[], []], picture=True)))
    assert "pip install 'longleaf[ocr]'" in message
    assert "--ocr" in message


def test_refuses_truncated_pdf(write, make):
    data = make.pdf([make.lines([f"Page {page} has words"]) for page in range(50)])
    assert "truncated" in refusal(write("a.pdf", data[: len(data) // 2]))


def test_ocr_without_rapidocr_names_the_extra(write, make):
    try:
        import rapidocr  # noqa: F401
    except ImportError:
        path = write("a.pdf", make.pdf([[]], picture=True))
        with pytest.raises(MissingExtra, match=r"longleaf\[ocr\]"):
            parse(path, ocr=True)
    else:
        pytest.skip("RapidOCR is installed")


@pytest.mark.parametrize("kind", ["docx", "epub"])
def test_refuses_zip_bombs(write, make, kind):
    data = make.docx(BOMB.decode()) if kind == "docx" else make.epub({"a": BOMB})
    assert len(data) < 100_000
    path = write(f"bomb.{kind}", data)
    assert "zip bomb" in refusal(path)
    assert "bytes allowed" in refusal(path, limits=Limits(unpacked_bytes=1_000_000))


def test_entities_are_not_expanded(write, make, tmp_path):
    (tmp_path / "secret").write_text("the secret")
    laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    doctype = f'<!DOCTYPE html [<!ENTITY a0 "ha">{laughs}<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    body = "<body><p>Before &a11; &x; after</p></body>"
    page = f"{doctype}<html xmlns='http://www.w3.org/1999/xhtml'>{body}</html>"
    parsed = parse(write("a.epub", make.epub({"a": page.encode()})))
    assert "secret" not in parsed.text.characters
    assert "haha" not in parsed.text.characters
    assert "Before" in parsed.text.characters
    assert "after" in parsed.text.characters
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "<w:body><w:p><w:r><w:t>In &x;</w:t></w:r></w:p></w:body>"
    body = f"{doctype}<w:document xmlns:w='{word}'>{body}</w:document>"
    assert parse(write("a.docx", make.docx("", document=body))).text.characters == "In"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(file_bytes=100), "Limits.file_bytes"),
        (Limits(pages=2), "Limits.pages"),
        (Limits(characters=20), "Limits.characters"),
        (Limits(seconds=0.01), "longer than 0.01 seconds"),
    ],
)
def test_limits_are_named(write, make, limits, words):
    path = write("a.pdf", make.pdf([make.lines([f"Page {page} has words"]) for page in range(3)]))
    assert words in refusal(path, limits=limits)


def test_depth_is_limited(write):
    path = write("a.html", b"<html>" + b"<div>" * 200 + b"deep")
    assert parse(path).text.characters == "deep"
    assert "Limits.depth" in refusal(path, limits=Limits(depth=100))


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match=r"Limits\.pages"):
        Limits(pages=0)


def test_progress_is_told(write, make):
    seen = []
    path = write("a.pdf", make.pdf([make.lines([f"Page {page}"]) for page in range(3)]))
    parse(path, on_page=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def worker(tmp_path, monkeypatch, code):
    (tmp_path / "bad_worker.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "bad_worker"


def test_a_page_that_crashes_the_library_is_left_out(tmp_path, monkeypatch, make):
    module = worker(
        tmp_path,
        monkeypatch,
        """
        import os
        from longleaf.retrieval.parsers import pdf, worker

        read_page = pdf.read_page

        def crash(job, document, number):
            if number == 2 and number not in job.skip:
                os.abort()
            return read_page(job, document, number)

        pdf.read_page = crash
        worker.main()
        """,
    )
    job = Job("a.pdf", make.pdf([make.lines([f"Page number {page}"]) for page in (1, 2, 3)]))
    seen = []
    text = read_in_child(job, PDF, lambda done, _: seen.append(done), worker=module)
    assert [page.error is None for page in text.pages] == [True, False, True]
    assert text.status == "partial"
    assert text.characters == "Page number 1\n\nPage number 3"
    assert seen == [1, 2, 3]


def test_a_child_that_dies_is_an_error(tmp_path, monkeypatch):
    module = worker(tmp_path, monkeypatch, "raise RuntimeError('no luck')")
    with pytest.raises(DocumentError, match=r"a\.pdf: the pdf parser failed on it \(RuntimeError: no luck"):
        read_in_child(Job("a.pdf", b"x" * 200_000), PDF, lambda *_: None, worker=module)


def test_a_child_that_hangs_is_killed(tmp_path, monkeypatch):
    module = worker(tmp_path, monkeypatch, "import sys, time; sys.stdin.buffer.read(); time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(DocumentError, match=r"Limits\.seconds"):
        read_in_child(Job("a.pdf", b"x", Limits(seconds=0.5)), PDF, lambda *_: None, worker=module)
    assert time.monotonic() - start < 10


@pytest.mark.skipif(sys.platform != "linux", reason="memory is capped on Linux")
def test_memory_is_capped(tmp_path, monkeypatch, make):
    module = worker(
        tmp_path,
        monkeypatch,
        """
        from longleaf.retrieval.parsers import pdf, worker
        pdf.read_page = lambda *_: bytearray(2**30)
        worker.main()
        """,
    )
    data = make.pdf([make.lines(["Words."])])
    with pytest.raises(DocumentError, match=r"Limits\.memory_bytes"):
        read_in_child(Job("a.pdf", data, Limits(memory_bytes=2**29)), PDF, lambda *_: None, worker=module)


def test_the_child_imports_little():
    heavy = "('torch', 'transformers', 'chromadb', 'numpy', 'lxml', 'pypdfium2')"
    code = "import sys, longleaf.retrieval.parsers.worker as w\n"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
