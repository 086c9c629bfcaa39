"""What a conversation keeps in view: its last turns, and a summary of the older ones under a budget.

After ReSum (arXiv 2509.13313): when the history passes its budget, a summary takes the place of the older turns and the
conversation goes on from there. Summary and turns are both kept. The summary is extractive: one line a turn, the
question as it was read and the first sentence of its checked answer, so that nothing in it is of a model's making.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from longleaf.agents.followup import Past, resolve
from longleaf.agents.reader import Answer, Ask
from longleaf.memory.conversations import Conversations
from longleaf.memory.records import SummaryRecord, TurnRecord
from longleaf.memory.runs import Runs
from longleaf.retrieval.sentence import sentences
from longleaf.retrieval.text import Span

NEW = "new"
"""Names a conversation that begins."""

Count = Callable[[str], int]
"""Tokens of a text."""

_ARROW = " -> "
_NOT_FOUND = "not found"
_LEFT_OUT = "({} earlier questions)"


@dataclass(frozen=True, slots=True)
class History:
    """The part of a conversation that is in view: the newest summary and the turns behind it, oldest first."""

    summary: SummaryRecord | None = None
    turns: tuple[TurnRecord, ...] = ()

    @property
    def tokens(self) -> int:
        return (self.summary.tokens if self.summary else 0) + sum(turn.tokens for turn in self.turns)

    @property
    def text(self) -> str:
        """All of it, as lines."""
        lines = [self.summary.text] if self.summary else []
        return "\n".join([*lines, *(line(turn) for turn in self.turns)])


@dataclass(frozen=True, slots=True)
class Place:
    """A question in a conversation: what it is read as, and the documents it is put to."""

    conversation: str
    question: str
    document_ids: tuple[str, ...]


def place(
    question: str, document_ids: tuple[str, ...], conversation: str, conversations: Conversations, runs: Runs
) -> Place:
    """Read a question in a conversation (an id, the beginning of one, or `NEW`).

    Where it names no documents, they are those of the last turn. Raises `ConversationMissing`.
    """
    if conversation == NEW:
        return Place(uuid.uuid4().hex, question, document_ids)
    record = conversations.get(conversation)
    history = view(record.id, conversations)
    documents = document_ids or (history.turns[-1].document_ids if history.turns else ())
    return Place(record.id, resolve(question, past(history, runs)).text, documents)


def keep(answer: Answer, ask: Ask, asked_at: datetime, conversations: Conversations, budget: int, count: Count) -> None:
    """Write the turn of an answer, and a summary where the history has passed `budget` tokens."""
    conversations.start(ask.asked or ask.question, asked_at, ask.conversation)
    turn = TurnRecord(
        conversation_id=ask.conversation,
        ordinal=0,
        asked=ask.asked or ask.question,
        question=ask.question,
        document_ids=ask.document_ids,
        run_id=answer.run_id,
        answer=answer.text,
        found=answer.found,
        tokens=0,
        asked_at=asked_at,
    )
    conversations.append(replace(turn, tokens=count(line(turn))))
    fold(ask.conversation, conversations, budget, count)


def view(conversation_id: str, conversations: Conversations) -> History:
    """What is in view of a conversation. Reads the turns behind its newest summary only, however long it is."""
    summary = conversations.summary(conversation_id)
    after = summary.up_to if summary else 0
    return History(summary, tuple(conversations.turns(conversation_id, after)))


def past(history: History, runs: Runs, turns: int = 3) -> list[Past]:
    """The last turns, with what their answers quoted, for reading a follow-up."""
    return [
        Past(turn.question, turn.answer if turn.found else "", _quotes(turn, runs)) for turn in history.turns[-turns:]
    ]


def line(turn: TurnRecord) -> str:
    """A turn as the summary holds it."""
    return f"{_flat(turn.question)}{_ARROW}{_first(turn.answer) if turn.found else _NOT_FOUND}"


def fold(conversation_id: str, conversations: Conversations, budget: int, count: Count) -> SummaryRecord | None:
    """Make a summary where the history passes `budget` tokens, and return it.

    It holds at most half the budget, and stands for all turns but the last ones that fit the other half; at least the
    last turn stays as it is. Where lines do not fit, the older half lose their answers, and the oldest are
    counted only.
    """
    history = view(conversation_id, conversations)
    if history.tokens <= budget or len(history.turns) < 2:
        return None
    kept, room = 1, budget // 2 - history.turns[-1].tokens
    while kept < len(history.turns) - 1 and history.turns[-kept - 1].tokens <= room:
        kept += 1
        room -= history.turns[-kept].tokens
    folded = history.turns[:-kept]
    before = history.summary.text.splitlines() if history.summary else []
    text = _within(before, [line(turn) for turn in folded], budget // 2, count)
    made = SummaryRecord(conversation_id, folded[-1].ordinal, text, count(text), datetime.now(UTC))
    conversations.summarise(made)
    return made


def _within(before: Sequence[str], new: Sequence[str], room: int, count: Count) -> str:
    gone = 0
    lines = list(before)
    if lines and lines[0].startswith("(") and lines[0].endswith("earlier questions)"):
        gone = int(lines.pop(0)[1:].split()[0])
    lines += new

    def text() -> str:
        return "\n".join([_LEFT_OUT.format(gone)] * (gone > 0) + lines)

    bare = sum(_ARROW not in each for each in lines)
    while lines and count(text()) > room:
        if bare > len(lines) // 2:
            lines.pop(0)
            bare, gone = bare - 1, gone + 1
        else:
            lines[bare] = lines[bare].partition(_ARROW)[0]
            bare += 1
    return text() if count(text()) <= room else ""


def _first(answer: str) -> str:
    """The first sentence of an answer, on one line."""
    flat = _flat(answer)
    span = next(iter(sentences(flat, Span(0, len(flat)))), Span(0, 0))
    return flat[span.start : span.end].strip()


def _flat(text: str) -> str:
    return " ".join(text.split()).replace(_ARROW, " - ")


def _quotes(turn: TurnRecord, runs: Runs) -> tuple[str, ...]:
    return tuple(quote.text for claim in runs.claims(turn.run_id) for quote in claim.quotes[:1])[:1]
