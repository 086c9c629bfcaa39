"""Links between lines of a memory: a name that one line brings up, and the lines elsewhere that name it too.

"Where is the football?": "Mary took the football" speaks to the question and brings up Mary, so what Mary did before
and after may be the other half of the answer, though it shares no word with the question. Small models overlook that
half (bridge questions of HotpotQA, Yang et al., 2018; bAbI's tasks 2 and 3, Weston et al., 2015). ComoRAG (2025) probes
again from what its memory holds; here code does, by names alone, without a call of the model.

Of the lines that hold the name a handful is taken, whatever the length of the text: the nearest before, the last
after, and the one that says most of what was asked. They are looked for in sentences that name it; a pronoun is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from longleaf.agents.lines import Unit, units
from longleaf.agents.names import content, named
from longleaf.agents.part import Part
from longleaf.agents.proposal import LONGEST, last_telling
from longleaf.memory.records import MemoryLine, SourceSpan
from longleaf.retrieval.search import Search
from longleaf.retrieval.shelf import Shelf

_NAMES = 6
"""Names that a memory follows. More of them are those of lines that speak little to the question."""

_NEAREST = 2
"""Lines that are kept for a name before a line that speaks to the question, and at the end. Of bAbI's tasks 2 and 3,
with a silent model, all facts were kept for 97% and 70% of 30 questions with one, 100% and 80% with two."""

_LOOKED_AT = 8
"""Earlier places of a name that are looked at when the name comes up."""

_DOCUMENTS = 3
"""Earlier documents that are looked at."""

_WORD = re.compile(r"\w+")


def brought_up(question: str, roots: Iterable[MemoryLine], shelf: Shelf) -> list[str]:
    """The names in lines that speak to the question, strongest line first, that the question does not hold.

    A capitalised word that its document writes small elsewhere stands at the head of a sentence, and is no name.
    """
    asked = content(question)
    found: dict[str, None] = {}
    for line in roots:
        for name in named(" ".join(line.text.split())):
            if name not in found and not content(name) & asked and content(name) and _always_capital(name, line, shelf):
                found[name] = None
        if len(found) >= _NAMES:
            break
    return list(found)[:_NAMES]


def holds_name(line: str, name: str) -> bool:
    """Whether a line names it, every word as it is written there, and says something beside."""
    mine, wanted = set(_WORD.findall(line)), set(_WORD.findall(name))
    return wanted <= mine and bool(content(" ".join(mine - wanted)))


def naming(units_: Iterable[Unit], wanted: Iterable[str]) -> list[Unit]:
    """The sentences that hold one of these names."""
    asked = list(wanted)
    return [unit for unit in units_ if len(unit.text) <= LONGEST and any(holds_name(unit.text, name) for name in asked)]


def beside(
    lines: Sequence[MemoryLine],
    roots: Sequence[int],
    wanted: Sequence[str],
    question: str,
    of: Sequence[int] | None = None,
    nearest: int = _NEAREST,
) -> list[int]:
    """The places among `lines`, which are in reading order, of those that a name ties to one of `of`, or of `roots`.

    In the order of `roots`, of which none is among them. `nearest` are taken before a root and after it.
    """
    asked = content(question)
    own = {
        name: [place for place, line in enumerate(lines) if place not in roots and holds_name(line.text, name)]
        for name in wanted
    }
    found: dict[int, None] = {}
    for root in roots if of is None else of:
        for name in wanted:
            if not holds_name(lines[root].text, name):
                continue
            before = [place for place in own[name] if place < root][-nearest:]
            after = [place for place in own[name] if place > root][-nearest:]
            best = max(own[name], key=lambda place: len(asked & content(lines[place].text)), default=None)
            telling = [best] if best is not None and asked & content(lines[best].text) else []
            found.update(dict.fromkeys([*reversed(after), *reversed(before), *telling]))
    return list(found)


@dataclass(frozen=True, slots=True)
class Strand:
    """Places among lines in reading order: of those that speak to the question or are tied to one that does, and of
    the foremost of them with what is tied to it."""

    kept: tuple[int, ...]
    foremost: tuple[int, ...]


def strand(lines: Sequence[MemoryLine], strength: Mapping[int, float], question: str, shelf: Shelf) -> Strand | None:
    """What of a memory belongs together; None where no line holds a word of the question.

    `strength` is that of the lines that speak to the question, by their places. The last of those that hold most of the
    question's words leads.
    """
    ordered = sorted(strength)
    at = last_telling(question, [lines[place].text for place in ordered], [strength[place] for place in ordered])
    if at is None:
        return None
    lead = ordered[at]
    roots = [lead, *sorted((place for place in ordered if place != lead), key=lambda place: -strength[place])]
    wanted = brought_up(question, [lines[place] for place in roots], shelf)
    own = beside(lines, roots, wanted, question, of=[lead], nearest=1)
    tied = beside(lines, roots, wanted, question)
    return Strand(tuple(sorted({*roots, *tied})), tuple(sorted({lead, *own})))


def earlier(name: str, part: Part, offsets: Mapping[str, int], search: Search, shelf: Shelf) -> list[Unit]:
    """Sentences before a part that hold the name: the nearest of its document, and some of documents before it.

    The text is looked through for the letters, the index of words is asked about other documents; no vectors are made.
    """
    found = _before(name, part, shelf)
    others = [key for key in offsets if offsets[key] < offsets[part.document_id]]
    for passage in search.mentioning(name, others, _DOCUMENTS) if others else ():
        span = SourceSpan(passage.document_id, passage.span.start, passage.span.end)
        found += naming(units([span], shelf), [name])[:_LOOKED_AT]
    return found


def _before(name: str, part: Part, shelf: Shelf) -> list[Unit]:
    characters = shelf.text(part.document_id).characters
    key = max(_WORD.findall(name), key=len)
    found: list[Unit] = []
    end = part.span.start
    for _ in range(_LOOKED_AT):
        place = characters.rfind(key, 0, end)
        if place < 0:
            break
        least = max(0, place - LONGEST)
        paragraph = characters.rfind("\n\n", least, place)
        start = least if paragraph < 0 else paragraph
        span = SourceSpan(part.document_id, start, min(part.span.start, place + LONGEST + 1))
        around = [unit for unit in units([span], shelf) if unit.source.start <= place < unit.source.end]
        # One that begins where the look does is the rest of a longer one.
        found += naming((unit for unit in around if unit.source.start > start or not start), [name])
        end = min([unit.source.start for unit in around], default=place)
    return found


def _always_capital(name: str, line: MemoryLine, shelf: Shelf) -> bool:
    if " " in name or not line.spans:
        return True
    characters = shelf.text(line.spans[0].document_id).characters
    return f" {name[0].lower()}{name[1:]} " not in characters
