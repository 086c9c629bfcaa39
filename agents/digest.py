"""A team's summary: sentences that members point at, narrowed in rounds until the leader can hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from longleaf.agents.call import call_each
from longleaf.agents.finding import NOTED, Finding, spread
from longleaf.agents.lines import Unit, split, support, units
from longleaf.agents.notebook import answer_tokens
from longleaf.agents.part import Part
from longleaf.agents.prompt import load
from longleaf.agents.proposal import central
from longleaf.agents.reader import Ask, Estimate, Work
from longleaf.agents.state import ReadState
from longleaf.agents.wording import summarised
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import MemoryLine, MemoryVersionRecord, SourceSpan
from longleaf.retrieval.text import Span

_A_PART = 2
_LINES = 4
_SENTENCE_TOKENS = 40
_FRAME_TOKENS = 64
_LEAST = 64
_TRIES = 3


def estimate(ask: Ask, made: int, around: int) -> Estimate:
    """The most that merging what `made` members found costs; each round leaves at most half."""
    tokens = min(made * _A_PART, NOTED) * _SENTENCE_TOKENS
    room = max(_LEAST, ask.budget.part_tokens)
    calls = prompt = 0
    while tokens > room:
        needed = -(-tokens // room) + 1
        calls, prompt = calls + needed, prompt + tokens + needed * around
        tokens //= 2
    return Estimate(calls, prompt, calls * ask.budget.memory_tokens)


def behind(work: Work, part: Part, reply: str) -> list[Span] | None:
    """The sentences of its part that hold a member's lines up, at most two; None where it wrote and none does."""
    lines = split(reply)[:_LINES]
    known = units([SourceSpan(part.document_id, part.span.start, part.span.end)], work.deps.shelf)
    held = [support(line, known, work.ask.question, work.deps.shelf, work.deps.search) for line in lines]
    first = [spans[0] for spans in held if spans]
    if lines and not first:
        return None
    return [Span(span.start, span.end) for span in dict.fromkeys(first)][:_A_PART]


def overlooked(ordinal: int, known: Sequence[Unit], found: Sequence[Finding]) -> list[Finding]:
    """The most central sentence of a part whose member found nothing."""
    if found:
        return []
    return [Finding(ordinal, Span(unit.source.start, unit.source.end)) for unit in central(known)]


def groups(work: Work, made: Sequence[Part], found: Sequence[Finding]) -> list[list[Finding]]:
    """Findings in reading order, as many together as one prompt holds; one group where no merging is needed."""
    count, room = work.deps.engine.count, _room(work)
    packs: list[list[Finding]] = []
    size = room + 1
    for item in found:
        tokens = count(_text(work, made, item)) + 1
        if size + tokens > room:
            packs.append([])
            size = 0
        packs[-1].append(item)
        size += tokens
    return packs


def _room(work: Work) -> int:
    """Tokens of findings in one prompt: a part's worth, where the window has room for that and the reply."""
    count, ask = work.deps.engine.count, work.ask
    names = ("team_merge", "team_summary")
    around = max(count(load(name).frame(ask.question)) for name in names)
    free = work.deps.engine.card.window - around - answer_tokens(ask) - _FRAME_TOKENS
    return max(_LEAST, min(ask.budget.part_tokens, free))


def merged(work: Work, made: Sequence[Part], found: Sequence[Finding]) -> tuple[list[Finding], bool]:
    """One round: of each group at most half stays, what the leader copied before the rest; whether code had to cut.

    A group whose call failed, or whose reply holds nothing of it, is thinned by code.
    """
    packs = groups(work, made, found)
    prompt = load("team_merge")
    requests = [
        Request(
            f"merge-{place}",
            prompt.messages(findings="\n".join(_text(work, made, item) for item in pack), question=work.ask.question),
            Sampling(max_tokens=work.ask.budget.memory_tokens, stop=("\n\n",), seed=work.ask.seed),
            prompt.prefix,
        )
        for place, pack in enumerate(packs, 1)
    ]
    replies, _ = call_each(work, "merge", requests)
    kept: list[Finding] = []
    for place, pack in enumerate(packs, 1):
        reply = replies.get(f"merge-{place}")
        chosen = _chosen(work, made, pack, reply.text if reply else "")
        kept += chosen or spread(pack, max(1, len(pack) // 2))
    if len(kept) < len(found):
        return kept, False
    # Groups of one long sentence each do not get fewer by themselves.
    return spread(kept, max(1, len(kept) // 2)), True


def _chosen(work: Work, made: Sequence[Part], pack: Sequence[Finding], reply: str) -> list[Finding]:
    known = units([_source(made, item) for item in pack], work.deps.shelf)
    places: set[SourceSpan] = set()
    for line in split(reply):
        places.update(support(line, known, work.ask.question, work.deps.shelf, work.deps.search)[:1])
    held = [item for item in pack if any(_within(made, item, span) for span in places)]
    return spread(held, max(1, len(pack) // 2)) if held else []


def _within(made: Sequence[Part], item: Finding, span: SourceSpan) -> bool:
    return made[item.ordinal].document_id == span.document_id and item.span.overlaps(Span(span.start, span.end))


def _source(made: Sequence[Part], item: Finding) -> SourceSpan:
    return SourceSpan(made[item.ordinal].document_id, item.span.start, item.span.end)


def _text(work: Work, made: Sequence[Part], item: Finding) -> str:
    return " ".join(work.deps.shelf.text(made[item.ordinal].document_id).slice(item.span).split())


def summary(
    work: Work,
    made: Sequence[Part],
    found: Sequence[Finding],
    notes: Sequence[str],
    on_piece: Callable[[str], None],
) -> ReadState:
    """The leader's summary of findings; each of its sentences is a claim with the sentences behind it."""
    texts = [_text(work, made, item) for item in found]
    prompt = load("team_summary")
    request = Request(
        "summary",
        prompt.messages(findings="\n".join(texts), question=work.ask.question),
        Sampling(max_tokens=answer_tokens(work.ask), seed=work.ask.seed),
        prompt.prefix,
    )
    wording = said(work, "lead", request, on_piece)
    lines = tuple(
        MemoryLine(text, (_source(made, item),), "supported", item.by) for text, item in zip(texts, found, strict=True)
    )
    findings = MemoryVersionRecord(work.run_id, 1, "lead", (), "\n".join(texts), 0, lines, (), (), datetime.now(UTC))
    return summarised(work, wording, findings, notes)


def said(work: Work, node: str, request: Request, on_piece: Callable[[str], None]) -> str:
    """One reply, streamed. A call that failed before it was heard is made again, twice; then its error is raised."""
    heard = False

    def hear(_: str, piece: str) -> None:
        nonlocal heard
        heard = True
        on_piece(piece)

    for _ in range(_TRIES):
        replies, failures = call_each(work, node, [request], on_token=hear)
        if heard or not failures:
            break
    if failures:
        raise failures[request.id].error
    return replies[request.id].text.strip()
