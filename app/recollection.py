"""What is remembered, as people see it and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text as Line

from longleaf.agents.reader import Recalled
from longleaf.printable import printable

if TYPE_CHECKING:
    from longleaf.library import Library
    from longleaf.memory.records import (
        ConversationRecord,
        FactRecord,
        KvAssetRecord,
        QuestionRecord,
        SummaryRecord,
        TurnRecord,
    )

_SHORT = 12
_EXPORTED_AT_MOST = 1_000_000


def _line(text: str, style: str = "") -> Line:
    """A line of data: no markup, no emoji codes, nothing that steers a terminal."""
    return Line(printable(" ".join(text.split())), style=style)


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def state(fact: FactRecord) -> str:
    """What became of a fact."""
    if fact.superseded:
        return f"replaced by {fact.superseded_by[:_SHORT]}" if fact.superseded_by else "replaced"
    return "STALE" if fact.stale else "pinned" if fact.pinned else "holds"


def source(fact: FactRecord | Recalled) -> str:
    """Where a fact comes from."""
    if fact.source == "user":
        return f"your word, about {fact.title}" if fact.title else "your word"
    return f"{fact.title}, p. {fact.page}" if fact.title else "an earlier question"


def facts_table(facts: Sequence[FactRecord]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "asked", "state", "source", "fact"):
        table.add_column(column, overflow="fold")
    for fact in facts:
        about = f"{fact.question} {fact.text}" if fact.question else fact.text
        table.add_row(fact.id[:_SHORT], _time(fact.asked_at), state(fact), _line(source(fact)), _line(about))
    return table


def kept_table(rows: Sequence[KvAssetRecord], titles: Mapping[str, str]) -> Table:
    """Kept keys and values; `titles` are those of the documents, by id."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("document", "title", "model", "tokens", "MB", "hits", "last used"):
        table.add_column(column, overflow="fold")
    for row in rows:
        document = row.document_id or ""
        size = f"{row.bytes / 1e6:,.1f}"
        title, model = _line(titles.get(document, "")), _line(row.model)
        table.add_row(document[:_SHORT], title, model, f"{row.tokens:,}", size, str(row.hits), _time(row.last_used))
    return table


def kept_json(row: KvAssetRecord, titles: Mapping[str, str]) -> dict[str, Any]:
    """Kept keys and values of a document."""
    times = {"created_at": row.created_at.isoformat(), "last_used": row.last_used.isoformat()}
    return {**asdict(row), "title": titles.get(row.document_id or ""), **times}


def fact_page(fact: FactRecord, before: Sequence[FactRecord]) -> RenderableType:
    parts: list[RenderableType] = [_line(fact.text, "bold"), _line(f"{state(fact)} · {source(fact)} · {fact.id}")]
    if fact.stale:
        parts.append(_line("Its document was removed, or no longer holds the quote. Ask again to know.", "yellow"))
    if fact.question:
        parts.append(_line(f"asked {_time(fact.asked_at)}: {fact.question}"))
    if fact.quote:
        parts.append(_line(f"“{fact.quote}”  characters {fact.start}-{fact.end}", "italic"))
    if fact.run_id:
        parts.append(_line(f"found by run {fact.run_id[:_SHORT]}; `longleaf runs show {fact.run_id[:_SHORT]}`", "dim"))
    parts += [_line(f"took the place of {old.id[:_SHORT]} ({_time(old.asked_at)}): {old.text}") for old in before]
    return Group(*parts)


def recalled_lines(recalled: Sequence[Recalled]) -> Iterator[Line]:
    """What was known before an answer: each fact with its source, when it was asked, and how to forget it."""
    for fact in recalled:
        at = _time(datetime.fromisoformat(fact.asked_at))
        known = _line(f"known: {fact.text}" if fact.text else f"asked: {fact.question}", "bold")
        if fact.stale:
            known.append(" STALE, its document has changed or is gone", style="yellow")
        yield known
        if fact.source == "question":
            yield _line(f"  {at}, run {fact.id[:_SHORT]}", "dim")
            continue
        quoted = f" “{fact.quote}”" if fact.quote else ""
        asked = f" to “{fact.question}”" if fact.question else ""
        yield _line(f"  {source(fact)}, {at}{asked}{quoted} · longleaf memory forget {fact.id[:_SHORT]}", "dim")


def chats_table(records: Sequence[ConversationRecord]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "asked", "turns", "first question"):
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(record.id[:_SHORT], _time(record.asked_at), str(record.turns), _line(record.title))
    return table


def chat_page(
    record: ConversationRecord, turns: Sequence[TurnRecord], summaries: Sequence[SummaryRecord]
) -> RenderableType:
    parts: list[RenderableType] = [_line(f"{record.id} · {_time(record.started_at)}", "dim")]
    for turn in turns:
        parts += [Line(), _line(f"{turn.ordinal}. {turn.asked}", "bold")]
        if turn.asked != turn.question:
            parts.append(_line(f"read as: {turn.question}", "dim"))
        parts += [_line(turn.answer), _line(f"{_time(turn.asked_at)}, run {turn.run_id[:_SHORT]}", "dim")]
    for summary in summaries:
        parts += [Line(), _line(f"summary up to turn {summary.up_to}, {summary.tokens} tokens", "bold")]
        parts += [_line(line) for line in summary.text.splitlines()]
    return Group(*parts)


def fact_json(fact: FactRecord) -> dict[str, Any]:
    """A fact as plain JSON values."""
    plain = _plain(fact)
    del plain["words"], plain["key"]
    return plain


def chat_json(record: ConversationRecord) -> dict[str, Any]:
    """A conversation as plain JSON values."""
    return _plain(record)


def turn_json(turn: TurnRecord) -> dict[str, Any]:
    """A turn as plain JSON values."""
    return _plain(turn)


def summary_json(summary: SummaryRecord) -> dict[str, Any]:
    """A summary as plain JSON values."""
    return _plain(summary)


def exported(library: Library) -> Iterator[dict[str, Any]]:
    """All that is remembered, each with its kind, for `memory export`."""
    for fact in library.facts(superseded=True):
        yield {"kind": "fact", **fact_json(fact)}
    for question in library.questions(_EXPORTED_AT_MOST):
        plain = _plain(question)
        del plain["words"], plain["key"]
        yield {"kind": "question", **plain}
    for record in library.conversations(_EXPORTED_AT_MOST):
        _, turns, summaries = library.conversation(record.id)
        yield {"kind": "conversation", **chat_json(record)}
        yield from ({"kind": "turn", **turn_json(turn)} for turn in turns)
        yield from ({"kind": "summary", **summary_json(summary)} for summary in summaries)


def _plain(
    record: FactRecord | ConversationRecord | TurnRecord | SummaryRecord | QuestionRecord,
) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(record).items()}
