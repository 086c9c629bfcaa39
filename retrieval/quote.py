"""Quote checking: what a model says a document says, against the document.

A quote is looked for exactly, then normalised (white space, hyphenation, quotation marks, dashes, case), then fuzzily.
Whatever is found is shown as the document's own characters at the document's own offsets, never as the model wrote it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import fuzz

from longleaf.retrieval.sentence import trimmed
from longleaf.retrieval.text import Span, Text

QuoteStatus = Literal["verified", "stitched", "misattributed", "missing"]
Match = Literal["exact", "normalised", "fuzzy"]

FUZZY_THRESHOLD = 90.0
"""Least similarity, 0 to 100 (rapidfuzz `ratio`: insertions and deletions), for a fuzzy match."""

_LEAST_FUZZY = 24
_LEAST_FRAGMENT = 12
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.\.\.|…)\s*\]|\.\.\.+|…)\s*")
_FIGURE = re.compile(
    r"\d+(?:[.,]\d+)*|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|"
    r"hundred|thousand|million|billion|once|twice|thrice|half|third|quarter|dozen|"
    r"first|second|fourth|fifth|sixth|seventh|eighth|ninth|tenth)\b"
)
_NEGATION = re.compile(r"\b(?:no|not|never|none|nor|neither|without|cannot|\w+n't)\b")
_SAME = str.maketrans("‘’‚‛′`“”„‟″«»‐‑‒–—―−\u00a0", '\'\'\'\'\'\'"""""""------- ')
_DROPPED = "\u00ad\u200b\u200c\u200d\ufeff"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a quote is said to stand: a span of a document's text."""

    document_id: str
    text: Text
    span: Span


@dataclass(frozen=True, slots=True)
class Found:
    """Characters of a document that a quote, or a fragment of it, stands for."""

    document_id: str
    span: Span
    page: int
    text: str
    match: Match
    similarity: float


@dataclass(frozen=True, slots=True)
class Checked:
    """Outcome of a check.

    `verified`: one place in the sources. `stitched`: fragments from several places. `misattributed`: not in the
    sources, but elsewhere in the documents. `missing`: nowhere; then `found` is empty.
    """

    status: QuoteStatus
    found: tuple[Found, ...] = ()


def check(quote: str, sources: Sequence[Source], elsewhere: Sequence[Source] = ()) -> Checked:
    """Check `quote` against `sources`, and failing that against `elsewhere`."""
    quote = unicodedata.normalize("NFC", quote).strip().strip("\"“”«»'‘’").strip()
    if not any(character.isalnum() for character in quote):
        return Checked("missing")
    if (whole := _locate(quote, sources)) is not None:
        return Checked("verified", (whole,))
    fragments = [_locate(fragment, sources) for fragment in _fragments(quote)]
    if len(fragments) > 1 and all(fragments):
        return Checked("stitched", tuple(found for found in fragments if found))
    if (other := _locate(quote, elsewhere)) is not None:
        return Checked("misattributed", (other,))
    return Checked("missing")


def _fragments(quote: str) -> list[str]:
    parts = [part for part in _ELLIPSIS.split(quote) if part]
    if len(parts) == 1:
        parts = re.split(r"(?<=[.!?;])\s+|\n+", quote)
    return parts if all(len(part) >= _LEAST_FRAGMENT for part in parts) else [quote]


def _locate(quote: str, sources: Sequence[Source]) -> Found | None:
    for search in (_exact, _normalised, _fuzzy):
        best: Found | None = None
        for source in sources:
            found = search(quote, source)
            if found and (best is None or found.similarity > best.similarity):
                best = found
            if best and best.match != "fuzzy":
                return best
        if best:
            return best
    return None


def _found(source: Source, span: Span, match: Match, similarity: float) -> Found:
    span = trimmed(source.text.characters, span)
    page = source.text.page_at(span.start).number
    return Found(source.document_id, span, page, source.text.slice(span), match, similarity)


def _exact(quote: str, source: Source) -> Found | None:
    for start in _occurrences(quote, source.text.characters, source.span):
        return _found(source, Span(start, start + len(quote)), "exact", 100.0)
    return None


def _normalised(quote: str, source: Source) -> Found | None:
    characters = source.text.slice(source.span)
    # A hyphen at a line's end may be the word's own: where joining the word does not help, no hyphen counts.
    for hyphens in (True, False):
        needle = normalise(quote, hyphens=hyphens).characters
        haystack = normalise(characters, hyphens=hyphens)
        for start in _occurrences(needle, haystack.characters, Span(0, len(haystack.characters))):
            span = haystack.original(start, start + len(needle), source.span.start)
            return _found(source, span, "normalised", 100.0)
    return None


def _occurrences(needle: str, haystack: str, within: Span) -> Iterator[int]:
    """Places `within` where `needle` stands as whole words and figures."""
    start = haystack.find(needle, within.start, within.end) if needle else -1
    while start >= 0:
        if not _cuts(haystack, start) and not _cuts(haystack, start + len(needle)):
            yield start
        start = haystack.find(needle, start + 1, within.end)


def _cuts(characters: str, place: int) -> bool:
    """Whether `place` lies within a word or a figure. Scripts without letter case are written without spaces too."""
    if not 0 < place < len(characters):
        return False
    before, after = characters[place - 1], characters[place]
    if before.isalnum() and after.isalnum():
        return "Lo" not in (unicodedata.category(before), unicodedata.category(after))
    if before in ".," and after.isdigit():
        return characters[max(0, place - 2)].isdigit()
    return before.isdigit() and after in ".," and characters[place + 1 : place + 2].isdigit()


def _fuzzy(quote: str, source: Source) -> Found | None:
    needle = normalise(quote).characters
    if len(needle) < _LEAST_FUZZY:
        return None
    haystack = normalise(source.text.slice(source.span))
    best: tuple[float, int, int] | None = None
    for start, end in _windows(needle, haystack.characters):
        aligned = fuzz.partial_ratio_alignment(
            needle, haystack.characters[start:end], score_cutoff=FUZZY_THRESHOLD - 10
        )
        if aligned is None:
            continue
        low, high = _whole_words(haystack.characters, start + aligned.dest_start, start + aligned.dest_end)
        score = fuzz.ratio(needle, haystack.characters[low:high])
        if score >= FUZZY_THRESHOLD and (best is None or score > best[0]):
            best = (score, low, high)
    if best is None or not _same_facts(needle, haystack.characters[best[1] : best[2]]):
        return None
    return _found(source, haystack.original(best[1], best[2], source.span.start), "fuzzy", best[0])


def _windows(needle: str, haystack: str) -> Iterator[tuple[int, int]]:
    """Stretches worth aligning: all of a short source, else around the quote's longest words."""
    reach = 2 * len(needle)
    if len(haystack) <= 20 * len(needle):
        yield 0, len(haystack)
        return
    words = sorted(set(re.findall(r"\w{4,}", needle)), key=len, reverse=True)[:4]
    seen = -1
    places = sorted({match.start() for word in words for match in re.finditer(re.escape(word), haystack)})
    for place in places[:400]:
        if place > seen:
            yield max(0, place - reach), min(len(haystack), place + reach)
            seen = place + len(needle) // 2


def _whole_words(haystack: str, start: int, end: int) -> tuple[int, int]:
    while 0 < start < len(haystack) and haystack[start - 1].isalnum() and haystack[start].isalnum():
        start -= 1
    while 0 < end < len(haystack) and haystack[end - 1].isalnum() and haystack[end].isalnum():
        end += 1
    return start, end


def _same_facts(quote: str, found: str) -> bool:
    """A changed figure or a lost "not" is one or two characters of a sentence, and all of its meaning."""
    return _FIGURE.findall(quote) == _FIGURE.findall(found) and len(_NEGATION.findall(quote)) == len(
        _NEGATION.findall(found)
    )


@dataclass(frozen=True, slots=True)
class Normalised:
    """Normalised characters and, for each, the index of the original character it came from."""

    characters: str
    origins: tuple[int, ...]

    def original(self, start: int, end: int, offset: int) -> Span:
        """The original span of normalised `[start, end)`, shifted by `offset`."""
        return Span(offset + self.origins[start], offset + self.origins[end - 1] + 1)


def normalise(characters: str, *, hyphens: bool = True) -> Normalised:
    """Fold case, compatibility forms, quotation marks, dashes and white space; join words cut at a line's end.

    Without `hyphens`, those between two letters go as well.
    """
    output: list[str] = []
    origins: list[int] = []
    index = 0
    while index < len(characters):
        if (join := _joined(characters, index)) > index:
            index = join
            continue
        if not hyphens and _between_letters(characters, index):
            index += 1
            continue
        for folded in _folded(characters[index]):
            if folded != " " or (output and output[-1] != " "):
                output.append(folded)
                origins.append(index)
        index += 1
    while output and output[-1] == " ":
        output.pop()
        origins.pop()
    return Normalised("".join(output), tuple(origins))


def _joined(characters: str, index: int) -> int:
    """Index behind a hyphen and line break at `index` that cut a word in two; `index` where there is none."""
    if characters[index] not in "-‐\u00ad" or index == 0 or not characters[index - 1].isalpha():
        return index
    after = index + 1
    while after < len(characters) and characters[after].isspace():
        after += 1
    broken = "\n" in characters[index + 1 : after]
    return after if broken and after < len(characters) and characters[after].islower() else index


def _between_letters(characters: str, index: int) -> bool:
    around = characters[max(0, index - 1) : index + 2]
    return len(around) == 3 and around[1] in "-‐" and around[0].isalpha() and around[2].isalpha()


def _folded(character: str) -> str:
    if character in _DROPPED:
        return ""
    if character.isspace():
        return " "
    return unicodedata.normalize("NFKC", character.translate(_SAME)).casefold()
