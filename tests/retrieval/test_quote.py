"""A quote is verified only where the document says it, and is shown in the document's own characters."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from longleaf.retrieval.parsers.canonical import canonical
from longleaf.retrieval.quote import FUZZY_THRESHOLD, Source, check, normalise
from longleaf.retrieval.text import Page, Span, Text

PAGE_ONE = "The garrison of 500 men surrendered at dawn on 12 May 1645. The governor was not present.\n"
PAGE_TWO = (
    "It was a well-\nknown strong-\nhold, and the “king’s own” regi-\nment—so called—kept it. "
    "The price rose from 12 to 15 pounds.\n\nNobody said that the bridge cannot be crossed in winter."
)
BOOK = Text(PAGE_ONE + PAGE_TWO, (Page(1, 0, len(PAGE_ONE)), Page(2, len(PAGE_ONE), len(PAGE_ONE + PAGE_TWO))))
OTHER = Text("The bishop owned seven mills on the river. He sold two of them.", (Page(1, 0, 63),))


def source(text=BOOK, name="book", start=0, end=None):
    return Source(name, text, Span(start, len(text) if end is None else end))


def verdict(quote, *sources, elsewhere=()):
    return check(quote, sources or [source()], elsewhere)


def of(characters):
    return source(Text(characters, (Page(1, 0, len(characters)),)))


def test_an_exact_quote_is_verified_with_its_page():
    checked = verdict("price rose from 12 to 15 pounds")
    (found,) = checked.found
    assert (checked.status, found.match, found.page, found.document_id) == ("verified", "exact", 2, "book")
    assert BOOK.slice(found.span) == found.text == "price rose from 12 to 15 pounds"


@pytest.mark.parametrize("marks", ['"{}"', "“{}”", "«{}»", "  {}\n", "'{}'"])
def test_the_marks_around_a_quote_do_not_count(marks):
    checked = verdict(marks.format("The governor was not present."))
    assert (checked.status, checked.found[0].match) == ("verified", "exact")


@pytest.mark.parametrize(
    ("quote", "shown"),
    [
        ("the  GOVERNOR was\nnot present", "The governor was not present"),
        ("the stronghold".removeprefix("the "), "strong-\nhold"),
        ("well-known stronghold", "well-\nknown strong-\nhold"),
        ("wellknown stronghold", "well-\nknown strong-\nhold"),
        ('the "king\'s own" regiment', "the “king’s own” regi-\nment"),
        ("regiment-so called-kept it", "regi-\nment—so called—kept it"),
        ("regi\u00adment—so called", "regi-\nment—so called"),
        ("garrison of 500 men sur\u00adrendered", "garrison of 500 men surrendered"),
        ("12 May 1645. The governor".replace(" ", "\u00a0"), "12 May 1645. The governor"),
    ],
)
def test_a_quote_that_differs_in_form_only_is_verified(quote, shown):
    checked = verdict(quote)
    assert checked.status == "verified"
    (found,) = checked.found
    assert (found.text, found.match, found.similarity) == (shown, "normalised", 100.0)
    assert BOOK.slice(found.span) == shown


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("The of\ufb01cial \ufb02ag was raised.", "official flag was raised"),
        ("The official flag was raised.", "of\ufb01cial \ufb02ag was raised"),
        ("She lived in the Straße nearby.", "strasse nearby"),
        ("A café on the square.", unicodedata.normalize("NFD", "café on the square")),
        ("Ｆｕｌｌ width letters.", "full width letters"),
        ("A soft\u00adhyphen within.", "softhyphen within"),
    ],
)
def test_ligatures_and_compatible_forms_are_the_same(document, quote):
    checked = verdict(quote, of(document))
    assert checked.status == "verified"
    assert checked.found[0].text in document


def test_one_typo_is_forgiven_in_a_long_quote():
    checked = verdict("The garison of 500 men surrendered at dawn")
    (found,) = checked.found
    assert (checked.status, found.match) == ("verified", "fuzzy")
    assert found.text == "The garrison of 500 men surrendered at dawn"
    assert FUZZY_THRESHOLD <= found.similarity < 100


def test_a_typo_is_found_in_a_long_document():
    filler = "Some men were here and some were there. " * 400
    checked = verdict("The garison of 500 men surrendered at dawn", of(filler + PAGE_ONE + filler))
    assert checked.found[0].text == "The garrison of 500 men surrendered at dawn"


@pytest.mark.parametrize(
    "quote",
    [
        "surendered",  # too short to be told from another word
        "The garrison of 500 soldiers gave up at dawn",
        "The enemy of five thousand women fled at dusk",
    ],
)
def test_what_is_less_alike_than_the_threshold_is_missing(quote):
    assert verdict(quote).status == "missing"
    assert verdict(quote).found == ()


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        (PAGE_ONE, "The garrison of 600 men surrendered at dawn on 12 May 1645."),
        (PAGE_ONE, "The garrison of 500 men surrendered at dawn on 12 May 1646."),
        (PAGE_ONE, "The garrison of 50 men surrendered at dawn on 12 May 1645."),
        (PAGE_ONE, "The governor was present."),
        (PAGE_ONE, "on 12 May 1645. The governor was present."),
        (PAGE_TWO, "Nobody said that the bridge can be crossed in winter."),
        (PAGE_TWO, "The price rose from 15 to 12 pounds."),
        (
            "The garrison of five hundred men surrendered at dawn.",
            "The garrison of nine hundred men surrendered at dawn.",
        ),
        ("The council of sixteen men surrendered at dawn.", "The council of sixty men surrendered at dawn."),
        ("The bridge isn't open to wagons in winter.", "The bridge is open to wagons in winter."),
        ("The bridge is open to wagons in winter.", "The bridge is not open to wagons in winter."),
        ("It was never sold to the bishop of the town.", "It was ever sold to the bishop of the town."),
    ],
)
def test_a_changed_figure_or_a_lost_not_is_never_verified(document, quote):
    assert verdict(quote, of(document)).status == "missing"


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("They concatenate files.", "cat"),
        ("They concatenate files.", "They con"),
        ("It cost 15 shillings.", "5 shillings"),
        ("It cost 1,500 shillings.", "500 shillings"),
        ("It cost 1.5 shillings.", "5 shillings"),
        ("It cost 15 shillings in 1990.", "shillings in 19"),
        ("He owed 12.50 pounds.", "He owed 12"),
        ("CATALOGUE of ships", "cat"),
    ],
)
def test_a_part_of_a_word_or_a_figure_is_not_a_quote(document, quote):
    assert verdict(quote, of(document)).status == "missing"


def test_the_whole_word_further_on_is_found():
    characters = "They concatenate files; the cat watches."
    (found,) = verdict("cat", of(characters)).found
    assert found.span.start == characters.index("the cat") + 4


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("彼は本を読みました。", "本を読み"),
        ("ภาษาไทยไม่มีช่องว่าง", "ไทยไม่มี"),
        ("The value is 5, or 6.", "value is 5"),
        ("It is 3.", "3"),
    ],
)
def test_scripts_without_spaces_and_figures_before_a_comma_are_found(document, quote):
    assert verdict(quote, of(document)).status == "verified"


@pytest.mark.parametrize("quote", ["", " \n", '""', "“ ”", ".", "...", "…", "- -", "?!", "\u00ad", "***"])
def test_nothing_is_not_a_quote(quote):
    assert verdict(quote, of("Well ... no? - - … *** ?! . \u00ad yes.")).status == "missing"


@pytest.mark.parametrize(
    "quote",
    [
        "garrison of 500 men ... price rose from 12 to 15 pounds",
        "garrison of 500 men […] price rose from 12 to 15 pounds",
        "garrison of 500 men… price rose from 12 to 15 pounds",
        "The governor was not present. The price rose from 12 to 15 pounds.",
        "The governor was not present.\nThe price rose from 12 to 15 pounds.",
    ],
)
def test_two_places_are_stitched(quote):
    checked = verdict(quote)
    assert checked.status == "stitched"
    assert [found.page for found in checked.found] == [1, 2]
    assert all(BOOK.slice(found.span) == found.text for found in checked.found)


def test_stitching_crosses_sources():
    checked = verdict("The governor was not present. He sold two of them.", source(), source(OTHER, "other"))
    assert checked.status == "stitched"
    assert [found.document_id for found in checked.found] == ["book", "other"]


@pytest.mark.parametrize(
    "quote",
    [
        "garrison of 500 men ... price rose from 12 to 16 pounds",
        "The governor was not present. He was eaten by a whale.",
        "The ... was ... at ... on",
    ],
)
def test_one_invented_part_spoils_the_whole(quote):
    assert verdict(quote).status == "missing"


def test_a_quote_of_another_source_is_misattributed():
    checked = verdict("He sold two of them.", elsewhere=[source(OTHER, "other")])
    assert (checked.status, checked.found[0].document_id) == ("misattributed", "other")


def test_the_source_goes_before_elsewhere():
    assert verdict("The governor was not present.", elsewhere=[source()]).status == "verified"


def test_a_source_is_its_span_and_no_more():
    inside = source(start=0, end=len(PAGE_ONE))
    assert verdict("price rose from 12 to 15 pounds", inside).status == "missing"
    assert verdict("governor was not present", inside).status == "verified"
    tail = source(start=BOOK.characters.index("price"))
    assert verdict("price rose", tail).found[0].text == "price rose"


def test_no_sources_no_quote():
    assert check("anything at all", []).status == "missing"


CHARACTERS = st.text(
    st.one_of(st.sampled_from("abc ABC éß 12.,-\n\n “”'\"—½²ﬁ漢字ばไท한국"), st.characters(exclude_categories=["Cs"])),
    max_size=120,
)


@given(CHARACTERS.map(canonical), st.data())
def test_whole_words_of_the_text_are_verified_where_they_stand(characters, data):
    words = characters.split()
    assume(any(any(letter.isalnum() for letter in word) for word in words))
    places, place = [], 0
    for word in words:
        place = characters.index(word, place)
        places.append((place, place + len(word)))
        place += len(word)
    first = data.draw(st.integers(0, len(places) - 1))
    last = data.draw(st.integers(first, len(places) - 1))
    quote = characters[places[first][0] : places[last][1]]
    assume(any(letter.isalnum() for letter in quote))

    checked = verdict(quote, of(characters))

    assert checked.status == "verified"
    (found,) = checked.found
    assert characters[found.span.start : found.span.end] == found.text
    assert found.text.strip("\"“”«»'‘’ \n\t") == quote.strip("\"“”«»'‘’ \n\t")


@given(CHARACTERS, CHARACTERS)
def test_whatever_is_found_is_the_documents_own(characters, quote):
    for found in verdict(quote, of(characters)).found:
        assert characters[found.span.start : found.span.end] == found.text
        assert found.text == found.text.strip()
        assert found.text


@given(
    st.lists(st.sampled_from("the king of spain was not here in 1588 nor 1589".split()), min_size=6, max_size=30),
    st.data(),
)
def test_a_document_with_one_letter_changed_still_shows_its_own(words, data):
    characters = " ".join(words)
    place = data.draw(st.integers(0, len(characters) - 1))
    quote = characters[:place] + data.draw(st.sampled_from("xyz ")) + characters[place + 1 :]
    for found in verdict(quote, of(characters)).found:
        assert characters[found.span.start : found.span.end] == found.text


@given(CHARACTERS)
def test_normalised_characters_know_where_they_came_from(characters):
    result = normalise(characters)
    assert len(result.characters) == len(result.origins)
    assert list(result.origins) == sorted(result.origins)
    assert all(0 <= origin < len(characters) for origin in result.origins)
    for letter, origin in zip(result.characters, result.origins, strict=True):
        assert letter in normalise(characters[origin]).characters or letter == " "


@given(CHARACTERS)
def test_normalising_folds_what_does_not_count(characters):
    once = normalise(characters).characters
    assert "\n" not in once
    assert "  " not in once
    assert once == once.strip(" ")
    assert normalise(f"  {characters.replace(' ', '   ')}  ").characters.replace(" ", "") == once.replace(" ", "")
