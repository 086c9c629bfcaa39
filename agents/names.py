"""Names and figures in a text, found by form alone: capitalised words in a row, what stands in quotation marks."""

from __future__ import annotations

import re
from collections.abc import Iterable

from longleaf.retrieval.search import stemmed
from longleaf.retrieval.text import Span

_TOKEN = re.compile(
    r"\b(?:St|Mt|Ft|Dr|Mr|Mrs|Ms|Prof|Gen|Col|Gov|Sen)\.(?=\s)|\w(?:[\w'’&-]|\.(?=\w))*(?:(?<=\b\w)\.)?"
)
_JOINS = frozenset("of the de da di du van von der den la le el al bin".split())
_QUOTED = re.compile(r"[\"“«]([^\"“”«»]{2,80})[\"”»]")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})\b")

FUNCTION = frozenset(
    "a an the this that these those and or but nor not no so if as at by for from in into of on onto over to under up "
    "with within without about after before since until during between among through per via than then i you he she it "
    "we they me him her us them my your his its our their who whom whose which what when where why how is are was were "
    "be been being am do does did can could may might must shall should will would has have had also both each all any "
    "some there here only just one two three first second other another such many much more most several while because "
    "although however according though upon out off down again once did'nt yes".split()
)
"""English words that name nothing by themselves."""


def names(text: str) -> list[Span]:
    """Where names stand in `text`, in order, without overlaps: in quotation marks, or capitalised words in a row."""
    found = [Span(*match.span(1)) for match in _QUOTED.finditer(text)]
    words = [Span(*match.span()) for match in _TOKEN.finditer(text)]
    place = 0
    while place < len(words):
        if not _capital(text, words[place]):
            place += 1
            continue
        last = _last(text, words, place)
        start, end = words[place].start, words[last].end
        span = Span(start, end - 2 if re.search(r"['’]s$", text[start:end]) else end)
        if len(span) > 1 and not any(span.overlaps(other) for other in found):
            found.append(span)
        place = last + 1
    return sorted(found, key=lambda span: span.start)


def named(text: str) -> list[str]:
    """The names of `text` as they are written there, without repeats."""
    return list(dict.fromkeys(text[span.start : span.end] for span in names(text)))


def figures(text: str) -> list[Span]:
    """Where figures stand in `text`."""
    return [Span(*match.span()) for match in _FIGURE.finditer(text)]


def years(text: str) -> list[Span]:
    """Where years stand in `text`."""
    return [Span(*match.span()) for match in _YEAR.finditer(text)]


def content(text: str) -> set[str]:
    """The stems of the words of `text` that are no function words."""
    return set(stemmed(" ".join(word for word in re.findall(r"\w+", text.lower()) if word not in FUNCTION)))


def news(text: str, known: Iterable[str]) -> list[Span]:
    """Names of `text` that hold a word no text of `known` holds."""
    held = content(" ".join(known))
    return [span for span in names(text) if content(text[span.start : span.end]) - held]


def _capital(text: str, word: Span) -> bool:
    return text[word.start].isupper() and text[word.start : word.end].casefold() not in FUNCTION


def _last(text: str, words: list[Span], first: int) -> int:
    """The last word of the name that begins with word `first`. "of" and the like may stand inside, a figure behind."""
    last, place = first, first + 1
    while place < len(words) and text[words[place - 1].end : words[place].start].isspace():
        if text[words[last].start : words[last].end].endswith(("'s", "’s")):
            break
        word = text[words[place].start : words[place].end]
        if _capital(text, words[place]) or (word.isdigit() and place == last + 1):
            last = place
        elif word not in _JOINS or place > last + 2:
            break
        place += 1
    return last
