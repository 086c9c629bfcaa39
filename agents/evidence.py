"""From what search and model point at to the quotes that are shown: whole sentences, checked, best first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from longleaf.agents.link import Strand, strand
from longleaf.agents.names import content, named
from longleaf.agents.reader import Quote, Work
from longleaf.agents.state import EvidenceState, PassageState
from longleaf.memory.records import MemoryLine, SourceSpan
from longleaf.retrieval.quote import Checked, Source, check
from longleaf.retrieval.search import Hits, Sentence, at_ends
from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.shelf import Shelf
from longleaf.retrieval.text import Span, Text

ENOUGH = 0.38
"""Least confidence of the best sentence for an answer to be looked for at all. docs/benchmarks.md has the curve: on
xquad it turns away 3% of questions the library answers and nine in ten of those it does not."""

WORTH = ENOUGH - 0.1
"""Least confidence of a sentence that code proposes: some way below what may be an answer, for what leads to one."""

MODEL_BONUS = 0.05
"""What the model's own choice of a sentence adds to its score (scores run from 0 to 1.5)."""


def confidence(sentence: Sentence) -> float:
    """How strongly a sentence speaks to the question, 0 to 1, comparable across questions."""
    return max(0.0, min(1.0, 0.7 * sentence.similarity + 0.3 * sentence.coverage))


def enough(evidence: Sequence[EvidenceState], first: int = 3) -> bool:
    """Whether one of the first of these, best first, speaks to the question strongly enough to look for an answer."""
    return any(item["confidence"] >= ENOUGH for item in evidence[:first])


def candidates(hits: Hits, limit: int) -> list[EvidenceState]:
    """The best sentences of a search. They are the document's own characters, so they are verified as they stand."""
    return [
        EvidenceState(
            document_id=sentence.document_id,
            start=sentence.span.start,
            end=sentence.span.end,
            status="verified",
            by="search",
            score=sentence.score,
            confidence=confidence(sentence),
        )
        for sentence in hits.sentences[:limit]
    ]


def to_read(hits: Hits, limit: int) -> list[PassageState]:
    """The best passages of a search, for a state."""
    return [
        PassageState(chunk_id=hit.chunk_id, document_id=hit.document_id, start=hit.span.start, end=hit.span.end)
        for hit in hits.passages[:limit]
    ]


def weighed(work: Work, question: str, spans: Iterable[SourceSpan], limit: int) -> list[EvidenceState]:
    """The sentences of given spans as evidence, those that speak to `question` most first, at most `limit`."""
    places = [(f"{span.document_id}:{span.start}", span.document_id, Span(span.start, span.end)) for span in spans]
    found = work.deps.search.weigh(question, places)
    return without_repeats(candidates(Hits((), found), len(found)))[:limit]


def remembered(work: Work) -> list[EvidenceState]:
    """Evidence from the newest version of a run's memory: the spans that hold its lines up.

    Behind the best come those that a name ties to the line that leads.
    """
    version = work.deps.versions.latest(work.run_id)
    lines = [line for line in version.lines if not line.out] if version else []
    spans = dict.fromkeys(span for line in lines for span in line.spans)
    written = {(span.document_id, span.start) for line in lines if line.by == "model" for span in line.spans}
    found = weighed(work, work.ask.question, spans, len(spans))
    for item in found:
        item["by"] = "model" if (item["document_id"], item["start"]) in written else "search"
    sound = [line for line in lines if line.spans]
    together = gathered(work, sound, found)
    if together:
        tied = {span for place in together.foremost for span in sound[place].spans}
        for item in found:
            if any(within(item, span) for span in tied):
                item["linked"] = True
        found = [*found[:1], *sorted(found[1:], key=lambda item: not item.get("linked", False))]
    return found[: work.ask.budget.quotes]


def gathered(work: Work, lines: Sequence[MemoryLine], found: Sequence[EvidenceState] = ()) -> Strand | None:
    """What of a memory's sound lines belongs together. `found` are their sentences as evidence, where they are known.

    None of a memory that is not in reading order.
    """
    if work.ask.options.overwrite != "guarded":
        return None
    spans = dict.fromkeys(span for line in lines for span in line.spans)
    items = found or weighed(work, work.ask.question, spans, len(spans))
    strength = {
        place: max((item["confidence"] for item in items if any(within(item, span) for span in line.spans)), default=0)
        for place, line in enumerate(lines)
    }
    speaking = {place: value for place, value in strength.items() if value >= WORTH}
    return strand(lines, speaking, work.ask.question, work.deps.shelf)


def within(item: EvidenceState, span: SourceSpan) -> bool:
    """Whether a piece of evidence begins in `span`."""
    return item["document_id"] == span.document_id and span.start <= item["start"] < span.end


def checked(reply: str, passage: PassageState, others: Sequence[PassageState], shelf: Shelf) -> Checked:
    """Check what the model copied from one passage, against that passage and then against the others."""
    return check(reply, [_source(passage, shelf)], [_source(other, shelf) for other in others])


def invented(outcomes: Sequence[Checked]) -> list[str]:
    """A note on the quotes that are in no passage."""
    lost = sum(outcome.status == "missing" for outcome in outcomes)
    told = f"{lost} of {len(outcomes)} sentences the model gave as quotes are not in the text; dropped"
    return [told] if lost else []


def adopt(found: Iterable[Checked], known: Sequence[EvidenceState], shelf: Shelf) -> list[EvidenceState]:
    """Join the model's checked quotes with the search's sentences, best first.

    A quote is widened to whole sentences. One that holds a sentence of the search takes over its score with a bonus;
    one that holds none, which the search ranked nowhere, goes behind those that do.
    """
    chosen: list[EvidenceState] = []
    taken: set[int] = set()
    for outcome in found:
        for place in outcome.found:
            span = whole_sentences(shelf.text(place.document_id), place.span)
            inside = [
                index
                for index, item in enumerate(known)
                if item["document_id"] == place.document_id and Span(item["start"], item["end"]).overlaps(span)
            ]
            taken.update(inside)
            chosen.append(
                EvidenceState(
                    document_id=place.document_id,
                    start=span.start,
                    end=span.end,
                    status=outcome.status,
                    by="model",
                    score=max((known[index]["score"] for index in inside), default=0.0) + MODEL_BONUS,
                    confidence=max((known[index]["confidence"] for index in inside), default=0.0),
                )
            )
    rest = [item for index, item in enumerate(known) if index not in taken]
    return without_repeats(sorted(chosen + rest, key=lambda item: -item["score"]))


def whole_sentences(text: Text, span: Span, neighbours: int = 0) -> Span:
    """The smallest run of whole sentences that holds `span`, with as many `neighbours` of the paragraph either side."""
    first = text.characters.rfind("\n\n", 0, span.start) + 1
    last = text.characters.find("\n\n", span.end)
    parts = list(sentences(text.characters, Span(first, len(text) if last < 0 else last)))
    held = [index for index, part in enumerate(parts) if part.overlaps(span)]
    if not held:
        return span
    start, end = max(0, held[0] - neighbours), min(len(parts) - 1, held[-1] + neighbours)
    return trimmed(text.characters, Span(parts[start].start, parts[end].end))


def several_names(question: str) -> list[set[str]]:
    """The words of each name of a question that holds two names or more; none of one that holds fewer."""
    found = [words for name in named(question) if (words := content(name))]
    return found if len(found) > 1 else []


def covering(evidence: Sequence[EvidenceState], question: str, shelf: Shelf) -> list[EvidenceState]:
    """Evidence, best first, with one item for each name of the question directly behind the best.

    Of "Which is higher, Nanda Devi or Broad Peak?" the best sentences may all be about one of the two. A question of
    one name, or none, leaves the order as it is.
    """
    missing = several_names(question)
    if not missing or not evidence:
        return list(evidence)
    held = [content(shelf.text(item["document_id"]).slice(Span(item["start"], item["end"]))) for item in evidence]
    foremost = [0]
    for words in missing:
        if not any(words <= held[place] for place in foremost):
            foremost += [place for place, said in enumerate(held) if words <= said][:1]
    return [evidence[place] for place in [*foremost, *(at for at in range(len(evidence)) if at not in foremost)]]


def reading(evidence: Sequence[EvidenceState], shelf: Shelf, neighbours: int = 1) -> str:
    """What the model reasons over: each quote amid its neighbours, strongest at the ends, and the best quote last.

    A small model looks at what stands before the question and little else: with the best quote there it names the
    answer more often (docs/benchmarks.md).
    """
    blocks: list[str] = []
    for item in at_ends(evidence):
        text = shelf.text(item["document_id"])
        block = _flat(text.slice(whole_sentences(text, Span(item["start"], item["end"]), neighbours)))
        if block not in blocks:
            blocks.append(block)
    best = evidence[0]
    last = _flat(shelf.text(best["document_id"]).slice(Span(best["start"], best["end"])))
    return "\n\n".join([*(block for block in blocks if block != last), last])


def _flat(characters: str) -> str:
    return " ".join(characters.split())


def reading_passages(passages: Sequence[PassageState], best: EvidenceState, shelf: Shelf) -> str:
    """What the model reasons over where an answer takes several places: passages as they stand, the best quote last."""
    ranks = list(dict.fromkeys(passage["document_id"] for passage in passages))
    in_order = sorted(passages, key=lambda passage: (ranks.index(passage["document_id"]), passage["start"]))
    cuts = [shelf.text(each["document_id"]).slice(Span(each["start"], each["end"])).strip() for each in in_order]
    last = shelf.text(best["document_id"]).slice(Span(best["start"], best["end"]))
    return "\n\n".join([*cuts, _flat(last)])


def around(evidence: Sequence[EvidenceState], shelf: Shelf, neighbours: int = 1) -> list[SourceSpan]:
    """The spans of what `reading` shows: each quote with its neighbours."""
    return [
        SourceSpan(item["document_id"], span.start, span.end)
        for item in evidence
        for span in [whole_sentences(shelf.text(item["document_id"]), Span(item["start"], item["end"]), neighbours)]
    ]


def holding(
    work: Work, wording: str, evidence: Sequence[EvidenceState], read: Sequence[SourceSpan]
) -> EvidenceState | None:
    """Of the sentences that the model read, the one that holds a wording which none of the quotes holds.

    Where there are several, the one that speaks to the question most. None for "yes" and "no".
    """
    said = _flat(wording).rstrip(".")
    if not said or said.casefold() in ("yes", "no"):
        return None
    shelf, held = work.deps.shelf, re.compile(rf"(?<![\w.,]){re.escape(said)}(?!\w)")
    shown = [SourceSpan(item["document_id"], item["start"], item["end"]) for item in evidence]
    if any(held.search(_flat(_cut(span, shelf))) for span in shown):
        return None
    parts = [
        SourceSpan(span.document_id, inner.start, inner.end)
        for span in read
        for part in sentences(shelf.text(span.document_id).characters, Span(span.start, span.end))
        for inner in [trimmed(shelf.text(span.document_id).characters, part)]
    ]
    found = weighed(work, work.ask.question, [span for span in parts if held.search(_flat(_cut(span, shelf)))], 1)
    return EvidenceState(**{**found[0], "by": "model"}) if found else None


def _cut(span: SourceSpan, shelf: Shelf) -> str:
    return shelf.text(span.document_id).slice(Span(span.start, span.end))


def quote(item: EvidenceState, shelf: Shelf) -> Quote:
    """A quote with its characters, read from the document now."""
    text = shelf.text(item["document_id"])
    span = Span(item["start"], item["end"])
    return Quote(
        item["document_id"],
        span.start,
        span.end,
        text.page_at(span.start).number,
        text.slice(span),
        item["status"],
        item["by"],
    )


def _source(passage: PassageState, shelf: Shelf) -> Source:
    document_id = passage["document_id"]
    return Source(document_id, shelf.text(document_id), Span(passage["start"], passage["end"]))


def without_repeats(items: Sequence[EvidenceState]) -> list[EvidenceState]:
    """Of evidence that overlaps, the first alone."""
    kept: list[EvidenceState] = []
    for item in items:
        span = Span(item["start"], item["end"])
        if not any(
            other["document_id"] == item["document_id"] and Span(other["start"], other["end"]).overlaps(span)
            for other in kept
        ):
            kept.append(item)
    return kept
