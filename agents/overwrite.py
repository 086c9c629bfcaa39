"""The overwrite of a memory: what it holds after a part, from what it held, the model's reply and the part itself.

MemAgent (Yu et al., 2025) lets the model's reply be the next memory: what the reply forgets is gone, and what it
invents is believed. That is `overwrite = "plain"`. The default is a guarded overwrite. The model proposes; each line is
checked (`lines.py`); a supported line of the old memory that the reply left out may stay; code proposes sentences of
its own (`proposal.py`); and the lines that speak most to the question, each by the best sentence behind it, fill the
budget. So what decides what is still there after 500 parts is the question, not the recency. For a summary there is no
such measure, and the lines that stay are those that spread most evenly over what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from longleaf.agents.denial import abstains
from longleaf.agents.evidence import MODEL_BONUS, WORTH, confidence
from longleaf.agents.lines import Unit, folded, split, support, units, words
from longleaf.agents.link import beside, brought_up, earlier, holds_name, naming
from longleaf.agents.part import Part
from longleaf.agents.proposal import central, last_telling, relevant
from longleaf.agents.reader import Work
from longleaf.memory.records import MemoryLine, MemoryVersionRecord, SourceSpan
from longleaf.retrieval.text import Span

_PROPOSED = 3
_LIKE = 0.6
"""Share of words that makes a line the altered form of another."""

_ROOM = 1.5
"""Characters, for each token of the memory, of a sentence that stands for a part in a summary: about a third of it."""

_FULL = "over the memory's budget"
_NOWHERE = "in no source"
_BESIDE = "says too little of the question"
_CUT = "cut off by the reply's limit"
_ALTERED = "no longer says what its source says"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote for the next memory; not `whole` where its token limit cut it."""

    text: str
    whole: bool = True


def overwritten(
    work: Work,
    node: str,
    before: MemoryVersionRecord | None,
    part: Part,
    reply: Reply,
    offsets: Mapping[str, int],
    *,
    questions: bool = False,
) -> MemoryVersionRecord:
    """The version that follows `before`. `offsets` place each document among all characters of the reading.

    With `questions`, lines that end in a question mark are carried too, as open questions.
    """
    held = [line for line in before.lines if not line.out] if before else []
    told = [line for line in split(reply.text) if folded(line) != folded(work.ask.question)]
    open_ones = [line for line in told if line.endswith("?")] if questions else []
    new = units([SourceSpan(part.document_id, part.span.start, part.span.end)], work.deps.shelf)
    written = _judged(work, [line for line in told if not line.endswith("?")], held, new)
    if not reply.whole and written and not told[-1].endswith((".", "!", "?")):
        written[-1] = replace(written[-1], out=_CUT)
    asked = [MemoryLine(line, (), "unsupported") for line in open_ones]
    if work.ask.options.overwrite == "plain":
        wanted, left = [*written, *asked], list[MemoryLine]()
    else:
        wanted, left = _guarded(work, part, held, written, new, offsets, asked)
    kept, over = _filled(work, [line for line in wanted if not line.out], work.ask.budget.memory_tokens)
    over = [line for line in over if line in written or line in asked]  # the rest was in the memory, or never was
    kept = _in_order(kept, offsets) if work.ask.options.overwrite == "guarded" else kept
    text = "\n".join(line.text for line in kept)
    was, now = [line.text for line in held], [line.text for line in kept]
    return MemoryVersionRecord(
        run_id=work.run_id,
        sequence=before.sequence + 1 if before else 1,
        node=node,
        chunk_ids=part.chunk_ids,
        text=text,
        tokens=work.deps.engine.count(text),
        lines=(
            *kept,
            *(line for line in [*written, *left] if line.out),
            *(replace(line, out=_FULL) for line in over),
        ),
        added=tuple(line for line in now if line not in was),
        dropped=tuple(line for line in was if line not in now),
        created_at=datetime.now(UTC),
    )


def _judged(work: Work, told: Sequence[str], held: Sequence[MemoryLine], new: Sequence[Unit]) -> list[MemoryLine]:
    """The reply's lines with what supports them in the part or behind the lines held so far."""
    deps, question = work.deps, work.ask.question
    sound = [line for line in held if line.mark == "supported"]
    same = {folded(line.text): line for line in sound}
    before = units((span for line in sound for span in line.spans), deps.shelf)
    known = [*new, *(unit for unit in before if unit not in new)]
    spoken = {folded(line) for line in told}
    silent = [line for line in sound if folded(line.text) not in spoken]
    lines: list[MemoryLine] = []
    for text in told:
        if folded(text) in same:
            lines.append(same[folded(text)])
        elif spans := support(text, known, question, deps.shelf, deps.search):
            lines.append(MemoryLine(text, spans, "supported"))
        else:
            altered = any(_alike(text, line.text) for line in silent)
            lines.append(MemoryLine(text, (), "lost" if altered else "unsupported"))
    return lines


def _alike(one: str, other: str) -> bool:
    mine, yours = words(one), words(other)
    return bool(mine) and len(mine & yours) / max(len(mine), len(yours)) >= _LIKE


def _guarded(
    work: Work,
    part: Part,
    held: Sequence[MemoryLine],
    written: Sequence[MemoryLine],
    new: Sequence[Unit],
    offsets: Mapping[str, int],
    asked: Sequence[MemoryLine],
) -> tuple[list[MemoryLine], list[MemoryLine]]:
    """Lines in the order in which they may fill the budget, and lines that may not, with the reason."""
    sound = [line for line in written if line.mark == "supported" and not line.out]
    covered = {span for line in sound for span in line.spans}
    kept = [
        line for line in held if line.mark == "supported" and line not in sound and not covered.issuperset(line.spans)
    ]
    covered.update(span for line in kept for span in line.spans)
    texts = {folded(line.text) for line in [*sound, *kept]}
    fresh = [unit for unit in _proposed(work, part, new, sound) if unit.source not in covered]
    fresh = [unit for unit in fresh if folded(unit.text) not in texts]
    proposed = [MemoryLine(unit.text, (unit.source,), "supported", "search") for unit in fresh]
    aside: list[MemoryLine] = []
    if work.ask.options.task == "summary":
        ranked = _spread([*sound, *kept, *proposed], offsets)
    else:
        ranked, aside = _ranked(work, part, [*sound, *kept], proposed, new, offsets)
    # Shown again, what the model invented would be copied into every memory to come.
    loose = [
        replace(line, out=_ALTERED if line.mark == "lost" else _NOWHERE)
        for line in written
        if line.mark != "supported" and not line.out
    ]
    return [*ranked, *asked], [*loose, *aside]


def _proposed(work: Work, part: Part, new: Sequence[Unit], sound: Sequence[MemoryLine]) -> list[Unit]:
    if work.ask.options.task == "answer":
        return relevant(work, part, new)
    own = {unit.source for unit in new}
    return (
        []
        if any(own.intersection(line.spans) for line in sound)
        else central(new, _ROOM * work.ask.budget.memory_tokens)
    )


def _ranked(
    work: Work,
    part: Part,
    lines: Sequence[MemoryLine],
    proposed: Sequence[MemoryLine],
    new: Sequence[Unit],
    offsets: Mapping[str, int],
) -> tuple[list[MemoryLine], list[MemoryLine]]:
    """Lines by how much they speak to the question, and those of the model's that say too little of it.

    Of those proposed only the best are taken. Half of the budget is for lines that speak to the question; then come
    those that a name ties to them (`link.py`), and the rest. Half of what code asks of a sentence is asked of one that
    the model chose: it may be a step to the answer. Nothing is asked of it where the model chooses nothing in parts
    that do not help.
    """
    strength = strengths(work, [span for line in [*lines, *proposed] for span in line.spans])

    def score(line: MemoryLine) -> float:
        return max(strength.get(span, 0.0) for span in line.spans) + (MODEL_BONUS if line.by == "model" else 0.0)

    able = [line for line in proposed if score(line) >= WORTH]
    best = sorted(able, key=lambda line: -score(line))[:_PROPOSED]
    best += [line for line in _last_telling(work, able, [score(line) for line in able]) if line not in best]
    roots = sorted((line for line in [*lines, *best] if score(line) >= WORTH), key=lambda line: -score(line))
    trusted = abstains(work.deps)
    others = [line for line in lines if line not in roots]
    able = [line for line in others if line.by == "model" and (trusted or score(line) >= WORTH / 2)]
    # What is said again word for word takes the later place: the lines are shown in reading order.
    again = {folded(unit.text): unit.source for unit in new}
    places = {line: again.get(folded(line.text)) for line in roots}
    valued = {replace(line, spans=(place,)) if place else line: score(line) for line, place in places.items()}
    ordered = _in_order(list(valued), offsets)
    first = _last_telling(work, ordered, [valued[line] for line in ordered])
    roots = [*first, *(line for line in valued if line not in first)]
    tied = _tied(work, part, roots, others, new, offsets)
    rest = sorted((line for line in able if line not in tied), key=lambda line: -score(line))
    left = [line for line in others if line.by == "model" and line not in tied and line not in able]
    budget = work.ask.budget.memory_tokens
    leading, behind = _filled(work, roots, budget // 2)
    foremost, further = _filled(work, tied, budget // 4)
    return [*leading, *foremost, *behind, *further, *rest], [replace(line, out=_BESIDE) for line in left]


def _last_telling(work: Work, lines: Sequence[MemoryLine], strength: Sequence[float]) -> list[MemoryLine]:
    """Of the lines that hold most of the question's words the last one, for it may undo the others."""
    at = last_telling(work.ask.question, [line.text for line in lines], strength)
    return [] if at is None else [lines[at]]


def _tied(
    work: Work,
    part: Part,
    roots: Sequence[MemoryLine],
    others: Sequence[MemoryLine],
    new: Sequence[Unit],
    offsets: Mapping[str, int],
) -> list[MemoryLine]:
    """What a name ties to `roots`: others, sentences of the part, and where a root is new, sentences before the part.

    One that says the same as another in another place is a fact of its own, unless it speaks to the question itself.
    """
    question, shelf = work.ask.question, work.deps.shelf
    wanted = brought_up(question, roots, shelf)
    if not wanted:
        return []
    units_ = naming(new, wanted)
    own = {unit.source for unit in new}
    for root in roots:
        if own.issuperset(root.spans):
            for name in wanted:
                if holds_name(root.text, name):
                    units_ += earlier(name, part, offsets, work.deps.search, shelf)
    held = [*roots, *others]
    covered = {span for line in held for span in line.spans}
    said = {folded(root.text) for root in roots}
    fresh = {unit.source: unit for unit in units_ if unit.source not in covered and folded(unit.text) not in said}
    proposed = [MemoryLine(unit.text, (unit.source,), "supported", "search") for unit in fresh.values()]
    ordered = _in_order([*held, *proposed], offsets)
    return [ordered[at] for at in beside(ordered, [ordered.index(root) for root in roots], wanted, question)]


def strengths(work: Work, spans: Iterable[SourceSpan]) -> dict[SourceSpan, float]:
    """How strongly each span speaks to the question, 0 to 1, by its best sentence."""
    known = list(dict.fromkeys(spans))
    places = [(str(place), span.document_id, Span(span.start, span.end)) for place, span in enumerate(known)]
    found: dict[SourceSpan, float] = {}
    for sentence in work.deps.search.weigh(work.ask.question, places):
        span = known[int(sentence.chunk_id)]
        found[span] = max(found.get(span, 0.0), confidence(sentence))
    return found


def _spread(lines: Sequence[MemoryLine], offsets: Mapping[str, int]) -> list[MemoryLine]:
    """Lines in an order whose every beginning is spread over what was read: each next one farthest from all before."""
    waiting = sorted(lines, key=lambda line: _place(line, offsets))
    chosen = waiting[:1]
    waiting = waiting[1:]
    while waiting:
        places = [_place(line, offsets) for line in chosen]
        best = max(
            waiting,
            key=lambda line: (min(abs(_place(line, offsets) - place) for place in places), line.by == "model"),
        )
        chosen.append(best)
        waiting.remove(best)
    return chosen


def _place(line: MemoryLine, offsets: Mapping[str, int]) -> int:
    return min(offsets[span.document_id] + span.start for span in line.spans)


def _in_order(lines: Sequence[MemoryLine], offsets: Mapping[str, int]) -> list[MemoryLine]:
    """Reading order; what no place holds up comes last."""
    sound = sorted((line for line in lines if line.spans), key=lambda line: _place(line, offsets))
    return [*sound, *(line for line in lines if not line.spans)]


def _filled(work: Work, lines: Sequence[MemoryLine], budget: int) -> tuple[list[MemoryLine], list[MemoryLine]]:
    """As many whole lines, from the first on, as a budget of tokens holds, and those it does not."""
    count = work.deps.engine.count
    kept: list[MemoryLine] = []
    over: list[MemoryLine] = []
    used = 0
    for line in lines:
        size = count(line.text) + 1  # and the line break
        if used + size <= budget + 1:
            kept.append(line)
            used += size
        else:
            over.append(line)
    while kept and count("\n".join(line.text for line in kept)) > budget:  # tokens do not always add up
        over.append(kept.pop())
    return kept, over
