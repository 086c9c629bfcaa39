"""What each parser makes of its format."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.retrieval.parsers import Limits, parse
from longleaf.retrieval.parsers import docx as docx_parser
from longleaf.retrieval.parsers import epub as epub_parser
from longleaf.retrieval.parsers import html as html_parser
from longleaf.retrieval.parsers import markdown as markdown_parser
from longleaf.retrieval.parsers import plain as plain_parser
from longleaf.retrieval.parsers.canonical import canonical
from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.text import Text

LETTERS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Cn")), min_size=1, max_size=40)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(text: Text) -> None:
    """What holds for every parsed text."""
    assert text.characters == canonical(text.characters)
    assert all(letter in "\n\t" or unicodedata.category(letter) not in {"Cc", "Cs"} for letter in text.characters)
    last = 0
    for number, page in enumerate(text.pages, start=1):
        assert page.number == number
        assert last <= page.start <= page.end <= len(text)
        assert page.error is None or page.start == page.end
        assert text.characters[last : page.start].strip() == ""
        last = page.end
    assert text.characters[last:].strip() == ""
    starts = [heading.start for heading in text.headings]
    assert starts == sorted(starts)
    for heading in text.headings:
        spelt = text.characters[heading.start : heading.end]
        assert spelt.strip() == spelt != ""
        assert heading.level >= 1


def headings(text: Text) -> list[tuple[str, int]]:
    return [(text.characters[item.start : item.end], item.level) for item in text.headings]


def html(source: str) -> Text:
    text = html_parser.read(Job("a.html", source.encode()))
    check(text)
    return text


def docx(make, body: str, **parts: str) -> Text:
    text = docx_parser.read(Job("a.docx", make.docx(body, **parts)))
    check(text)
    return text


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


# Plain text


@QUICK
@given(st.lists(LETTERS, min_size=1).map("\n".join).filter(lambda text: canonical(text).strip()))
def test_plain_text_round_trips(source):
    text = plain_parser.read(Job("a.txt", source.encode()))
    check(text)
    assert text.characters == canonical(source)
    assert canonical(text.characters) == text.characters


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be"])
def test_unicode_encodings(write, encoding):
    source = "Größe und Maß: ½ − “quoted” 🌲\nSecond line"
    assert parse(write("a.txt", source.encode(encoding))).text.characters == source


@pytest.mark.parametrize(
    ("encoding", "source"),
    [
        (
            "cp1252",
            "Le café était fermé, hélas ; l’été dernier déjà, on s’y pressait à midi comme à l’aube. " * 5,
        ),
        (
            "cp1251",
            "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 5,
        ),
        ("shift_jis", "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 5),
        ("big5", "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。" * 5),
    ],
)
def test_old_encodings(write, encoding, source):
    assert parse(write("a.txt", source.encode(encoding))).text.characters == source


@QUICK
@given(st.binary(min_size=1, max_size=400))
def test_a_wrong_guess_never_crashes(data):
    check_text = canonical(plain_parser.decode(data))
    assert canonical(check_text) == check_text


def test_form_feeds_are_pages():
    text = plain_parser.read(Job("a.txt", b"One\n\fTwo\n\f"))
    check(text)
    assert [text.characters[page.start : page.end] for page in text.pages] == ["One\n", "Two\n"]
    assert text.unit == "page"


def test_canonical_characters():
    assert canonical("a\r\nb\rc\u2028d\x0be") == "a\nb\nc\nd\ne"
    assert canonical("of\ufb01ce \ufb00\u00ad\u200b e\u0301 x\u00b2\u00a0y") == "office ff é x² y"
    assert canonical("\u202eabc\u202c\U000e0041\x00\x1b\ufffe\ud800") == "abc�"
    assert canonical("می\u200cخواهم") == "می\u200cخواهم"


# Markdown


def test_markdown_keeps_its_source():
    source = "# The *title*\n\nWords with `code`.\n\n```\n# no heading\n```\n\n"
    source += "Two lines\n  of title\n===\n\n### Deep ###\n"
    text = markdown_parser.read(Job("a.md", source.encode()))
    check(text)
    assert text.characters == source
    assert headings(text) == [("The *title*", 1), ("Two lines\n  of title", 1), ("Deep", 3)]
    assert text.title == "The *title*"


@QUICK
@given(st.lists(st.one_of(LETTERS, LETTERS.map("## {}".format), st.just("---"))).map("\n".join))
def test_markdown_headings_are_in_the_text(source):
    if canonical(source).strip():
        text = markdown_parser.read(Job("a.md", source.encode()))
        check(text)
        assert text.characters == canonical(source)


# HTML


def test_html_shows_what_a_browser_shows():
    text = html(
        "<title>T &amp; U</title><style>p{}</style><nav>Home</nav><h1>One\n <em>title</em></h1>"
        "<p>Caf&eacute; <b>au</b>\n lait&nbsp;&#8212;<br>now</p><script>x()</script>"
        "<p hidden>no</p><!-- no -->"
        "<p style='display: none'>no</p><pre>  a\n    b\n</pre>"
        "<ul><li>x<li><p>y</p></ul><ol start=3><li>z</ol>after"
    )
    assert text.characters == ("One title\n\nCafé au lait —\nnow\n\n  a\n    b\n\nx\ny\n\n3. z\n\nafter")
    assert headings(text) == [("One title", 1)]
    assert text.title == "T & U"
    assert len(text.pages) == 1
    assert text.unit == "section"


def test_html_tables_are_rows():
    text = html("<p>Before<table><tr><th>a<th>b</tr><tr><td><p>1</p><td>2<br>3</tr></table><p>After")
    assert text.characters == "Before\n\na\tb\n1\t2\n3\n\nAfter"


def test_html_footnotes_follow_their_paragraph():
    text = html(
        "<p>First<a id='r1' href='#n1'>1</a>.</p><p>Second.</p><hr><h2>Notes</h2>"
        "<div id='n1'><a href='#r1'>1</a> The note.</div><p>Last.</p>"
    )
    assert text.characters == "First1.\n\n1 The note.\n\nSecond.\n\nNotes\n\nLast."


def test_html_encodings():
    body = "<html><meta charset=windows-1251><p>Привет</p>"
    assert html_parser.read(Job("a.html", body.encode("cp1251"))).characters == "Привет"
    assert html_parser.read(Job("a.html", ("\ufeff" + body).encode("utf-16-le"))).characters == "Привет"
    declared = '<?xml version="1.0" encoding="iso-8859-1"?><html><p>né</p></html>'
    assert html_parser.read(Job("a.html", declared.encode("latin-1"))).characters == "né"


TAGS = st.sampled_from(
    [
        "p",
        "div",
        "b",
        "h1",
        "h3",
        "ul",
        "li",
        "ol",
        "table",
        "tr",
        "td",
        "pre",
        "br",
        "script",
        "span",
        "dl",
        "dt",
        "dd",
        "a",
        "blockquote",
    ]
)


@QUICK
@given(st.lists(st.tuples(TAGS, LETTERS, st.booleans()), min_size=1, max_size=25))
def test_any_tag_soup_is_a_text(soup):
    source = "".join(f"<{tag}>{words}{f'</{tag}>' if closed else ''}" for tag, words, closed in soup)
    html(f"<html><p>start</p>{source}")


# EPUB


def test_epub_follows_its_spine(make):
    data = make.epub(
        {"b": "<h1>Beta</h1><p>Second&nbsp;one</p>", "a": "<h1>Alpha</h1><p>First</p>", "pic": b"<svg/>"},
        spine=["a", "pic", "missing", "b"],
        pic="image/svg+xml",
    )
    text = epub_parser.read(Job("a.epub", data))
    check(text)
    assert text.characters == "Alpha\n\nFirst\n\nBeta\n\nSecond one"
    assert len(text.pages) == 4
    assert text.pages[2].error is not None
    assert text.status == "partial"
    assert (text.title, text.unit) == ("The Book", "section")


def test_epub_reads_broken_xhtml(make):
    data = make.epub({"a": b"<html><title/><body><p>Not <b>closed</p></body>"})
    assert epub_parser.read(Job("a.epub", data)).characters == "Not closed"


@QUICK
@given(st.lists(LETTERS.map(lambda text: text.replace("&", "").replace("<", "")), min_size=1, max_size=6))
def test_epub_sections_are_spine_items(make, chapters):
    data = make.epub({f"c{n}": f"<h2>Chapter {n}</h2><p>{text}</p>" for n, text in enumerate(chapters)})
    text = epub_parser.read(Job("a.epub", data))
    check(text)
    assert len(text.pages) == len(text.headings) == len(chapters)


# DOCX


def test_docx_in_document_order(make):
    table = "<w:tbl>{}</w:tbl>".format(
        "".join(f"<w:tr>{''.join(f'<w:tc>{paragraph(cell)}</w:tc>' for cell in row)}</w:tr>" for row in ("ab", "cd"))
    )
    body = (
        paragraph("Before everything")
        + paragraph("One", '<w:pStyle w:val="H1"/>')
        + "<w:p><w:r><w:t>Kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        '<w:ins><w:r><w:t xml:space="preserve"> added</w:t>'
        '<w:footnoteReference w:id="2"/></w:r></w:ins></w:p>'
        + f"<w:sdt><w:sdtContent>{table}</w:sdtContent></w:sdt>"
        + paragraph("Deeper", '<w:pStyle w:val="H2"/>')
        + paragraph("Two", '<w:outlineLvl w:val="0"/>')
    )
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    notes = (
        f'<w:footnotes xmlns:w="{word}"><w:footnote w:id="0" w:type="separator">{paragraph("-")}</w:footnote>'
        f'<w:footnote w:id="2">{paragraph("A note")}</w:footnote></w:footnotes>'
    )
    text = docx(make, body, footnotes=notes)
    assert text.characters == ("Before everything\n\nOne\n\nKept added[2]\n\n[2] A note\n\na\tb\nc\td\n\nDeeper\n\nTwo")
    assert headings(text) == [("One", 1), ("Deeper", 2), ("Two", 1)]
    assert (len(text.pages), text.unit) == (3, "section")


def test_docx_pages_only_where_breaks_mark_them_all(make):
    cut = '<w:p><w:r><w:br w:type="page"/></w:r></w:p>'
    text = docx(make, paragraph("One") + cut + paragraph("Two") + cut + cut + paragraph("Four"))
    assert [text.characters[page.start : page.end] for page in text.pages] == ["One", "Two", "", "Four"]
    assert text.unit == "page"
    long = docx(make, paragraph("Cover") + cut + paragraph("word " * 5000))
    assert (len(long.pages), long.unit) == (1, "section")


@QUICK
@given(st.lists(st.tuples(LETTERS, st.sampled_from(["", "H1", "H2"])), min_size=1, max_size=10))
def test_any_docx_is_a_text(make, paragraphs):
    body = "".join(
        paragraph(text.replace("&", "+").replace("<", "("), f'<w:pStyle w:val="{style}"/>')
        for text, style in paragraphs
    )
    docx(make, paragraph("start") + body)


# Documents people have


@pytest.mark.parametrize(
    ("name", "pages", "at_least"),
    [
        ("fhs-3.0.pdf", 50, 150),
        ("debian-policy-4.6.2.pdf", 193, 330),
        ("zsh-5.9-manual.pdf", 480, 300),
        ("fhs-3.0.html", 1, 200),
        ("debian-policy-4.6.2.epub", 25, 300),
        ("mary-shelley_frankenstein.epub", 38, 30),
        ("sarif-v2.1.0-committee-specification.docx", 18, 500),
    ],
)
def test_real_documents(documents, name, pages, at_least):
    parsed = parse(documents / name, limits=Limits(seconds=120))
    check(parsed.text)
    assert len(parsed.text.pages) == pages
    assert len(parsed.text.headings) >= at_least
    assert parsed.text.status == "whole"
