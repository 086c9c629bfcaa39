"""Entries of a structured memory: what each key of each field is, and the sentences of the text that hold it up.

The model proposes edits; an edit whose key and value no sentence of the part holds is turned away. Code adds the
sentence of a part that speaks most to the question, where one does. What is over the budget goes: for a question the
entries that speak least to it, for a summary those that stand closest to others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from typing import Literal

from longleaf.agents.evidence import ENOUGH, MODEL_BONUS
from longleaf.agents.form import Edit, Form
from longleaf.agents.lines import Unit, folded, support, units
from longleaf.agents.overwrite import strengths
from longleaf.agents.part import Part
from longleaf.agents.proposal import central, relevant
from longleaf.agents.reader import Work
from longleaf.memory.records import MemoryLine, MemoryVersionRecord, SourceSpan

SENTENCES = "sentences"
"""The field that code fills, with sentences of the text as they stand."""

_SPANS = 4
"""Most sentences behind one entry, the newest."""

_UNHELD = "no sentence of the part holds it"
_FULL = "over the memory's budget"


@dataclass(frozen=True, slots=True)
class Entry:
    """What `key` of `field` is; sentences that code added have no key."""

    field: str
    key: str
    value: str
    spans: tuple[SourceSpan, ...]
    by: Literal["model", "search"] = "model"

    @property
    def text(self) -> str:
        """The entry as a line of a memory version."""
        return f"{self.field}/{self.key}: {self.value}" if self.key else self.value

    @property
    def line(self) -> MemoryLine:
        return MemoryLine(self.text, self.spans, "supported", self.by)


def entries(version: MemoryVersionRecord | None) -> list[Entry]:
    """The entries that a version of a memory holds, in the order in which they came."""
    return [_entry(line) for line in version.lines if not line.out] if version else []


def _entry(line: MemoryLine) -> Entry:
    if line.by == "search":
        return Entry(SENTENCES, "", line.text, line.spans, "search")
    field, _, rest = line.text.partition("/")
    key, _, value = rest.partition(": ")
    return Entry(field, key, value, line.spans)


def shown(held: Sequence[Entry]) -> str:
    """Entries as a prompt shows them: by field, in the order in which they came."""
    fields = dict.fromkeys(entry.field for entry in held)
    return "\n".join(
        f"{field}\n"
        + "\n".join(f"- {entry.key}: {entry.value}" if entry.key else f"- {entry.value}" for entry in table)
        for field in fields
        if (table := [entry for entry in held if entry.field == field])
    )


def edited(
    work: Work,
    node: str,
    before: MemoryVersionRecord | None,
    part: Part,
    proposed: Sequence[Edit],
    form: Form,
    offsets: Mapping[str, int],
) -> MemoryVersionRecord:
    """The version that follows `before` after a part. `offsets` place each document among all the characters read.

    Lines with a reason in `out` are edits that were turned away, and entries that the budget had no room for.
    """
    deps = work.deps
    held = entries(before)
    part_units = units([SourceSpan(part.document_id, part.span.start, part.span.end)], deps.shelf)
    now = list(held)
    away: list[MemoryLine] = []
    for edit in proposed:
        spans = support(f"{edit.key}: {edit.value}", part_units, work.ask.question, deps.shelf, deps.search)
        if not spans:
            text = Entry(edit.field, edit.key, edit.value, ()).text
            away.append(MemoryLine(text, (), "unsupported", out=_UNHELD))
        else:
            _apply(now, Entry(edit.field, edit.key, edit.value, spans))
    now += _sentence(work, part, part_units, now)
    now = _in_form(now, form)
    kept = _filled(work, now, offsets)
    over = [replace(entry.line, out=_FULL) for entry in now if entry not in kept and entry not in held]
    was, texts = [entry.text for entry in held], [entry.text for entry in kept]
    text = shown(kept)
    return MemoryVersionRecord(
        run_id=work.run_id,
        sequence=before.sequence + 1 if before else 1,
        node=node,
        chunk_ids=part.chunk_ids,
        text=text,
        tokens=deps.engine.count(text),
        lines=(*(entry.line for entry in kept), *away, *over),
        added=tuple(line for line in texts if line not in was),
        dropped=tuple(line for line in was if line not in texts),
        created_at=datetime.now(UTC),
    )


def _apply(now: list[Entry], new: Entry) -> None:
    """Give a key its new value, or add the key; what is there already stays as it is, with one more source."""
    for place, entry in enumerate(now):
        if entry.field != new.field or entry.by != "model":
            continue
        spans = tuple(dict.fromkeys((*entry.spans, *new.spans)))[-_SPANS:]
        if folded(entry.value) == folded(new.value):
            now[place] = replace(entry, spans=spans)
            return
        if folded(entry.key) == folded(new.key):
            now[place] = replace(new, spans=spans)
            return
    now.append(new)


def _sentence(work: Work, part: Part, part_units: Sequence[Unit], now: Sequence[Entry]) -> list[Entry]:
    """The sentence that code adds for a part, unless an entry rests on it already."""
    if work.ask.options.task == "summary":
        own = {unit.source for unit in part_units}
        best = [] if any(own.intersection(entry.spans) for entry in now) else central(part_units)
    else:
        likely = relevant(work, part, part_units)
        strength = strengths(work, [unit.source for unit in likely])
        best = sorted(likely, key=lambda unit: -strength.get(unit.source, 0.0))[:1]
        best = [unit for unit in best if strength.get(unit.source, 0.0) >= ENOUGH]
    known = {span for entry in now for span in entry.spans}
    return [Entry(SENTENCES, "", unit.text, (unit.source,), "search") for unit in best if unit.source not in known]


def _in_form(now: Sequence[Entry], form: Form) -> list[Entry]:
    """By field, in the form's order; the field that code fills comes last."""
    order = {field.name: place for place, field in enumerate(form.fields)}
    return sorted(now, key=lambda entry: order.get(entry.field, len(order)))


def _filled(work: Work, now: Sequence[Entry], offsets: Mapping[str, int]) -> list[Entry]:
    """What the budget holds of the entries, in their order."""
    count, budget = work.deps.engine.count, work.ask.budget.memory_tokens
    kept = list(now)
    if count(shown(kept)) <= budget:
        return kept
    strength: Mapping[SourceSpan, float] = {}
    if work.ask.options.task == "answer":
        strength = strengths(work, [span for entry in kept for span in entry.spans])
    while kept and count(shown(kept)) > budget:
        kept.remove(_least(kept, strength) if strength else _closest(kept, offsets))
    return kept


def _least(kept: Sequence[Entry], strength: Mapping[SourceSpan, float]) -> Entry:
    def score(entry: Entry) -> float:
        best = max(strength.get(span, 0.0) for span in entry.spans)
        return best + (MODEL_BONUS if entry.by == "model" else 0.0)

    return min(kept, key=score)


def _closest(kept: Sequence[Entry], offsets: Mapping[str, int]) -> Entry:
    """The entry whose going leaves the smallest gap in what was read; one that came up again counts for more."""
    places = [min(offsets[span.document_id] + span.start for span in entry.spans) for entry in kept]
    order = sorted(range(len(kept)), key=lambda index: places[index])

    def gap(position: int) -> float:
        if position in (0, len(order) - 1):
            return inf
        return (places[order[position + 1]] - places[order[position - 1]]) * len(kept[order[position]].spans)

    return kept[order[min(range(len(order)), key=gap)]]
