"""The turn that readers with an overwritten memory repeat: one part read, one new version of the memory.

The text of the memory is in SQL, a version a turn; the state of the graph holds the version's number and counters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longleaf.agents.call import call, skim
from longleaf.agents.overwrite import Reply, overwritten
from longleaf.agents.part import Part, fits
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, Emit, Estimate, MemoryChanged, Reading, Task, Work
from longleaf.agents.state import ReadState
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import MemoryVersionRecord, SourceSpan

_FRAME_TOKENS = 64
"""Room for what a chat template adds around a prompt."""

_NOTHING = "(nothing yet)"

_WENT_BACK = "a name in it came up later, so code looked at it again"

_LEAST_REPLY = 64
"""Tokens. A small model that has said what it can goes on saying it, at a tenth of a second a token on a CPU."""


class NotebookState(ReadState, total=False):
    """`ordinal` is the next part, `version` the newest version of the memory (0 before the first).

    `rejected`, `altered` and `left_out` count lines of the model's that no source holds, that no longer say what
    their source says, and that were over the budget or cut off. `went_back` counts sentences before a part that were
    taken up when a name in them mattered.
    """

    fingerprint: str
    ordinal: int
    version: int
    rejected: int
    altered: int
    left_out: int
    went_back: int
    ended: str


@dataclass(frozen=True, slots=True)
class Style:
    """How a reader keeps its memory: the node that reads, the prompt for each task, whether open questions are kept.

    `plain` are the prompts where nothing guards the overwrite, so that the reply has to hold all that is to stay.
    `writing` are those that the answer, or the summary, is written with.
    """

    node: str
    prompts: Mapping[Task, str]
    plain: Mapping[Task, str]
    writing: Mapping[Task, str]
    questions: bool = False

    def prompt(self, ask: Ask) -> str:
        """The name of the prompt that reads a part."""
        return (self.plain if ask.options.overwrite == "plain" else self.prompts)[ask.options.task]


def opened(fingerprint: str) -> NotebookState:
    """The state before the first part."""
    return {
        "fingerprint": fingerprint,
        "ordinal": 0,
        "version": 0,
        "rejected": 0,
        "altered": 0,
        "left_out": 0,
        "went_back": 0,
    }


def check(ask: Ask, deps: Deps, style: Style) -> None:
    """Raise `BudgetTooSmall` unless a full part, a full memory and the reply fit the model's window."""
    fits(ask, deps, load(style.prompt(ask)).frame(ask.question), ask.budget.memory_tokens + reply_tokens(ask))


def turn(state: NotebookState, work: Work, style: Style, made: Sequence[Part], emit: Emit) -> NotebookState:
    """Read the next part: ask the model for the new memory, check it, store it. The state with the new version."""
    deps, ask = work.deps, work.ask
    part = made[state["ordinal"]]
    before = deps.versions.get(work.run_id, state["version"])
    emit(Reading(part.ordinal + 1, len(made), part.tokens))
    prompt = load(style.prompt(ask))
    request = Request(
        f"part-{part.ordinal + 1}",
        prompt.messages(
            part=part.characters(deps.shelf),
            memory=(before.text if before else "") or _NOTHING,
            question=ask.question,
        ),
        Sampling(max_tokens=reply_tokens(ask), stop=("\n\n",) if style.questions else ("\n\n", '"\n'), seed=ask.seed),
        prompt.prefix,
    )
    done = call(work, style.node, [request], {request.id: part.chunk_ids})[request.id]
    version = overwritten(
        work,
        style.node,
        before,
        part,
        Reply(done.text, done.stop_reason not in ("length", "loop")),
        offsets(made),
        questions=style.questions,
    )
    deps.versions.put(version)
    emit(MemoryChanged(version.sequence, part.ordinal + 1, len(made), version.added, version.dropped, version.tokens))
    new = [line for line in version.lines if before is None or line not in before.lines]
    back = [span for line in new if line.by == "search" and not line.out for span in line.spans if not _in(span, part)]
    if back and ask.options.gate:  # else every part before was read
        skim(work, style.node, _chunks(back, deps), _WENT_BACK)
    return {
        "ordinal": part.ordinal + 1,
        "version": version.sequence,
        "rejected": state["rejected"] + sum(line.mark == "unsupported" and not line.text.endswith("?") for line in new),
        "altered": state["altered"] + sum(line.mark == "lost" for line in new),
        "left_out": state["left_out"] + sum(bool(line.out) and line.mark == "supported" for line in new),
        "went_back": state.get("went_back", 0) + len(back),
    }


def _in(span: SourceSpan, part: Part) -> bool:
    return span.document_id == part.document_id and part.span.start <= span.start < part.span.end


def _chunks(spans: Sequence[SourceSpan], deps: Deps) -> tuple[str, ...]:
    """The chunks that hold these spans."""
    return tuple(
        chunk.id
        for document in dict.fromkeys(span.document_id for span in spans)
        for chunk in deps.documents.chunks(document)
        if any(span.document_id == document and chunk.start <= span.start < chunk.end for span in spans)
    )


def offsets(made: Sequence[Part]) -> dict[str, int]:
    """Where each document begins among all characters of the reading."""
    found: dict[str, int] = {}
    ends: dict[str, int] = {}
    for part in made:
        found.setdefault(part.document_id, sum(ends.values()))
        ends[part.document_id] = max(ends.get(part.document_id, 0), part.span.end)
    return found


def notes(state: NotebookState, version: MemoryVersionRecord | None) -> list[str]:
    """What a reader of the answer should know of how the memory came about."""
    told: list[str] = []
    lines = [line for line in version.lines if not line.out and line.mark == "supported"] if version else []
    if lines:
        written = sum(line.by == "model" for line in lines)
        told.append(f"of {len(lines)} checked lines in memory the model wrote {written}, code {len(lines) - written}")
    for count, what in (
        (state["rejected"], "in no source, so no evidence"),
        (state["altered"], "no longer what their source says, so marked lost"),
        (state["left_out"], "true, but over the budget, cut off or beside the question"),
    ):
        if count:
            told.append(f"of the lines that the model wrote: {count} {what}")
    if went_back := state.get("went_back", 0):  # a run that an earlier release began does not count them
        told.append(f"{went_back} sentences were taken up from earlier text, for names that came up after them")
    return told


def estimate(ask: Ask, made: Sequence[Part], deps: Deps, style: Style) -> Estimate:
    """The most that reading all parts and one answer cost."""
    names = (style.prompt(ask), style.writing[ask.options.task])
    around = [deps.engine.count(load(name).frame(ask.question)) + _FRAME_TOKENS for name in names]
    memory = ask.budget.memory_tokens
    reading = sum(part.tokens for part in made) + len(made) * (around[0] + memory)
    return Estimate(
        len(made) + 1,
        reading + 2 * memory + around[1],
        len(made) * reply_tokens(ask) + answer_tokens(ask),
    )


def reply_tokens(ask: Ask) -> int:
    """How long the reply to a part may be: as long as the memory where it is the memory, else what a part may add."""
    memory = ask.budget.memory_tokens
    return memory if ask.options.overwrite == "plain" else min(memory, max(_LEAST_REPLY, memory // 4))


def answer_tokens(ask: Ask) -> int:
    """How long the answer may be; a summary may be as long as the memory it is written from."""
    budget = ask.budget
    return max(budget.answer_tokens, budget.memory_tokens) if ask.options.task == "summary" else budget.answer_tokens
