"""Lines of a memory: what a model wrote, cut into lines, and the sentences of the text that hold each of them up.

Whether a line is supported is decided here, by code. A line that copies is looked for in what was read, as any quote
is. One that says it in other words is supported where sentences hold most of its words, or mean much the same, and
hold all of its figures and names; where it neither adds nor drops a "not"; and where no word stands in another's place
that means something else. Such a check can be wrong both ways, so what is shown is always the sentence itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from longleaf.agents.denial import denied
from longleaf.agents.support import unsupported
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.quote import Source, check
from longleaf.retrieval.search import Search, stemmed
from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span

SHARE = 0.6
"""Least share of a line's words that its sentences hold."""

_LIKE = 0.75
_LIKE_SHARE = 0.3
"""Least cosine of a line to one sentence, and share of its words there, where the words alone do not do."""

_SYNONYM = 0.78
"""Least cosine of two words, one in the other's place, that may be taken for each other. By the default embedder,
big and large have 0.81, bought and purchased 0.91, but bought and sold 0.76, red and blue 0.73."""

_SENTENCES = 3
_LIKELY = 4
_REACH = 400
"""Characters between the starts of sentences that may hold up one line together."""

_BULLET = re.compile(r"^\s*(?:[-*•–>#]+|\(?\d{1,3}[.)])\s+")
_MARKUP = re.compile(r"\*\*|__|`|</?\w{1,12}>")
_MARK = re.compile(r"[\"“”„«»]")
_CONTENT = re.compile(r"\w*\d\w*|\w{4,}")
_NEGATION = re.compile(r"\b(?:no|not|never|none|nor|neither|without|cannot|\w+n't)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence that a line may rest on, without the white space at its ends."""

    source: SourceSpan
    raw: str
    words: frozenset[str]

    @property
    def text(self) -> str:
        """Its words on one line."""
        return " ".join(self.raw.split())


def split(reply: str) -> list[str]:
    """The lines of a reply, a sentence each, without bullets, markup and repeats, and without a denial."""
    lines: list[str] = []
    for raw in reply.splitlines():
        line = " ".join(_MARKUP.sub("", _BULLET.sub("", raw)).split())
        lines += [_unquoted(line[span.start : span.end].strip()) for span in sentences(line, Span(0, len(line)))]
    told = [line for line in lines if any(character.isalnum() for character in line) and not denied(line)]
    kept: dict[str, str] = {}
    for line in told:
        kept.setdefault(folded(line), line)
    return list(kept.values())


def _unquoted(line: str) -> str:
    """A line without a quotation mark at an end that has no partner."""
    marks = len(_MARK.findall(line))
    return line.strip('"“”„«» ') if marks % 2 else line


def folded(line: str) -> str:
    """What two lines that say the same in the same words have in common."""
    return " ".join(re.findall(r"\w+", line.casefold()))


def units(spans: Iterable[SourceSpan], shelf: Shelf) -> list[Unit]:
    """The sentences of these spans, in their order."""
    found: dict[SourceSpan, Unit] = {}
    for span in spans:
        characters = shelf.text(span.document_id).characters
        for sentence in sentences(characters, Span(span.start, span.end)):
            part = trimmed(characters, sentence)
            if len(part) > 1:
                source = SourceSpan(span.document_id, part.start, part.end)
                content = characters[part.start : part.end]
                found[source] = Unit(source, content, words(content))
    return list(found.values())


def words(content: str) -> frozenset[str]:
    """Stems of the words that say something: those of four letters and more, and figures."""
    return frozenset(stemmed(" ".join(_CONTENT.findall(content))))


def support(line: str, known: Sequence[Unit], question: str, shelf: Shelf, search: Search) -> tuple[SourceSpan, ...]:
    """The sentences among `known` that hold `line` up, in the order of `known`; none where nothing does.

    Names and figures of the question may stand in a line without standing in its sentences.
    """
    if copied := _copied(line, known, shelf):
        return copied
    wanted = words(line)
    if not wanted:
        return ()
    likely = sorted(known, key=lambda unit: -len(wanted & unit.words))[:_LIKELY]
    chosen = _covering(wanted, likely)
    if _share(wanted, chosen) >= SHARE:
        same = _same_facts(line, chosen, question) and not _swapped(line, chosen, search)
        return _sources(chosen, known) if same else ()
    near = [unit for unit in likely if _share(wanted, [unit]) >= _LIKE_SHARE and _same_facts(line, [unit], question)]
    near = [unit for unit in near if not _swapped(line, [unit], search)]
    if not near:
        return ()
    places = [
        (str(place), unit.source.document_id, Span(unit.source.start, unit.source.end))
        for place, unit in enumerate(near)
    ]
    best = max(search.weigh(line, places), key=lambda sentence: sentence.similarity)
    return (near[int(best.chunk_id)].source,) if best.similarity >= _LIKE else ()


def _copied(line: str, known: Sequence[Unit], shelf: Shelf) -> tuple[SourceSpan, ...]:
    outcome = check(line, [_source(run, shelf) for run in _runs(known)])
    if outcome.status not in ("verified", "stitched") or any(found.match == "fuzzy" for found in outcome.found):
        return ()  # what is nearly a copy may differ in the one word that matters
    held = [
        unit
        for unit in known
        for found in outcome.found
        if unit.source.document_id == found.document_id
        and Span(unit.source.start, unit.source.end).overlaps(found.span)
    ]
    # A piece of a sentence without its "not" says the opposite, letter for letter.
    return _sources(held, known) if bool(_NEGATION.search(line)) == _negated(held) else ()


def _runs(known: Sequence[Unit]) -> list[SourceSpan]:
    """Neighbouring sentences joined, so that a line that copies two of them is found."""
    runs: list[SourceSpan] = []
    for unit in known:
        last = runs[-1] if runs else None
        if last is not None and last.document_id == unit.source.document_id and 0 <= unit.source.start - last.end <= 2:
            runs[-1] = SourceSpan(last.document_id, last.start, unit.source.end)
        else:
            runs.append(unit.source)
    return runs


def _source(span: SourceSpan, shelf: Shelf) -> Source:
    return Source(span.document_id, shelf.text(span.document_id), Span(span.start, span.end))


def _covering(wanted: frozenset[str], likely: Sequence[Unit]) -> list[Unit]:
    """The fewest sentences, taken greedily from one place, that hold most of the wanted words.

    Two that stand far apart may each be true and a line made of both a lie.
    """
    chosen: list[Unit] = []
    missing = wanted
    while len(chosen) < _SENTENCES and _share(wanted, chosen) < SHARE:
        near = [unit for unit in likely if not chosen or _near(unit.source, chosen[0].source)]
        best = max(near, key=lambda unit: len(missing & unit.words), default=None)
        if best is None or not missing & best.words:
            break
        chosen.append(best)
        missing = missing - best.words
    return chosen


def _near(one: SourceSpan, other: SourceSpan) -> bool:
    return one.document_id == other.document_id and abs(one.start - other.start) <= _REACH


def _share(wanted: frozenset[str], chosen: Sequence[Unit]) -> float:
    held = frozenset[str]().union(*(unit.words for unit in chosen))
    return len(wanted & held) / len(wanted)


def _same_facts(line: str, chosen: Sequence[Unit], question: str) -> bool:
    texts = [unit.text for unit in chosen]
    # A line's first word may be a name or not; where all others are held, it is what was changed.
    first = words(line.split(maxsplit=1)[0])
    missing = words(line) - words(" ".join([*texts, question]))
    if missing and missing <= first:
        return False
    return bool(_NEGATION.search(line)) == _negated(chosen) and not unsupported(line, texts, question)


def _swapped(line: str, chosen: Sequence[Unit], search: Search) -> bool:
    """Whether the line has a word where a sentence has another one of another meaning, amid words they share."""
    held = frozenset[str]().union(*(unit.words for unit in chosen))
    said = [(stem, match.span()) for match in _CONTENT.finditer(line) for stem in words(match.group())]
    for unit in chosen:
        written = [(stem, match.span()) for match in _CONTENT.finditer(unit.raw) for stem in words(match.group())]
        blocks = SequenceMatcher(
            None, [stem for stem, _ in said], [stem for stem, _ in written], autojunk=False
        ).get_opcodes()
        for kind, first, last, start, end in blocks:
            mine = {stem for stem, _ in said[first:last]} - held
            if kind != "replace" or not mine or len(blocks) < 2:
                continue
            phrase = line[said[first][1][0] : said[last - 1][1][1]]
            place = Span(unit.source.start + written[start][1][0], unit.source.start + written[end - 1][1][1])
            found = search.weigh(phrase, [("", unit.source.document_id, place)])
            if max((sentence.similarity for sentence in found), default=0.0) < _SYNONYM:
                return True
    return False


def _negated(chosen: Sequence[Unit]) -> bool:
    return any(_NEGATION.search(unit.text) for unit in chosen)


def _sources(chosen: Sequence[Unit], known: Sequence[Unit]) -> tuple[SourceSpan, ...]:
    places = {unit.source for unit in chosen}
    return tuple(unit.source for unit in known if unit.source in places)
