"""What people see: progress, streamed answers, quotes with pages, tables. All of it goes through rich."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text as Line

from longleaf.agents.reader import (
    Answer,
    Asking,
    Chosen,
    MemoryChanged,
    Partial,
    Quote,
    ReadAs,
    Reader,
    ReaderEvent,
    Reading,
    Skipped,
    Wording,
)
from longleaf.memory.errors import DocumentMissing
from longleaf.printable import printable
from longleaf.recollection import recalled_lines

if TYPE_CHECKING:
    from pathlib import Path

    from longleaf.agents.compare import Comparison
    from longleaf.agents.forecast import Forecast
    from longleaf.doctor import Check
    from longleaf.engine.catalog import CatalogEntry
    from longleaf.engine.heads import Calibration
    from longleaf.engine.store import InstalledModel
    from longleaf.library import AnswerEvent, Library
    from longleaf.memory.records import ChunkRecord, DocumentRecord, MemoryVersionRecord, RunRecord, StepRecord
    from longleaf.retrieval.text import Text

_LOOKED, _SHOWN = 3, 160
_SHORT = 12
_STAGES = {"chunk": "cutting into chunks", "embed": "embedding", "write": "writing"}
_MARKS = {"verified": "✓", "stitched": "≈", "misattributed": "!", "missing": "✗"}


def _line(text: str, style: str = "") -> Line:
    """A line of data: no markup, no emoji codes, nothing that steers a terminal."""
    return Line(printable(text), style=style)


def show(what: RenderableType) -> None:
    """Print to standard output, as wide as the terminal."""
    Console(highlight=False).print(what)


class Progress:
    """Bars with the time left, on standard error, so that standard output holds the answer alone."""

    def __init__(self, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._plain = None if quiet or console.is_terminal else console
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._what = ""

    def update(self, what: str, done: int, total: int) -> None:
        """Show how far a stage is. A new stage takes the place of the one before."""
        what = _STAGES.get(what, what)
        if what != self._what:
            self._what = what
            if self._plain:
                self._plain.print(_line(what, "dim"))
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(printable(what), total=total or None)
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total or None)

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class Printer:
    """Follows one answer: what is read on standard error, the answer's wording as it is written on standard output."""

    def __init__(self, library: Library, *, quiet: bool) -> None:
        self._library = library
        self._quiet = quiet
        self._out = Console(highlight=False)
        self._err = Console(stderr=True, highlight=False)
        self._titles: dict[str, str] = {}
        self._unit: dict[str, str] = {}
        self._streamed = False

    def follow(self, events: Iterator[AnswerEvent]) -> Answer:
        """Show events as they come and return the answer. Standard output carries nothing where `quiet`."""
        for event in events:
            if isinstance(event, Answer):
                if self._streamed:
                    sys.stdout.write("\n")
                return event
            if self._quiet:
                continue
            if isinstance(event, Wording):
                piece = printable(event.text if self._streamed else event.text.lstrip())
                sys.stdout.write(piece)
                sys.stdout.flush()
                self._streamed = self._streamed or bool(piece)
            else:
                self.progress(event)
        raise AssertionError("a run ended without an answer")

    def progress(self, event: AnswerEvent) -> None:
        """Say on standard error what an event tells of the way to an answer; nothing where `quiet`."""
        if not self._quiet and not isinstance(event, Answer) and (line := _progress(event)):
            self._err.print(_line(line, "dim"))

    def answer(self, answer: Answer) -> None:
        """Print what comes after the wording: quotes with pages, coverage, usage."""
        if not self._streamed:
            self._out.print(_line(answer.text))
        several = len({quote.document_id for quote in (*answer.quotes, *answer.closest)}) > 1
        number = 0
        for claim in answer.claims:
            if claim.about:
                self._out.print()
                self._out.print(_line(f"{claim.about} {claim.text}".strip(), style="bold"))
            for quote in claim.quotes:
                number += 1
                self._quote(number, quote, several)
        if answer.closest:
            self._out.print(_line("\nWhat came closest:"))
        for number, quote in enumerate(answer.closest, 1):
            self._quote(number, quote, several)
        if answer.looked:
            self._out.print(_line("\nWhere the model looked:"))
        for looked in answer.looked[:_LOOKED]:
            self._look_up(looked.document_id)
            words = " ".join(looked.text.split())
            where = f"{self._unit[looked.document_id]} {looked.page}, {100 * looked.score:.0f}%"
            self._out.print(_line(f"    {where}: {words[:_SHOWN]}{'…' if len(words) > _SHOWN else ''}", style="dim"))
        if answer.recalled:
            self._out.print()
        for line in recalled_lines(answer.recalled):
            self._out.print(line)
        self._out.print()
        if answer.partial:
            self._out.print(_line("note: partial: from what was read so far", style="yellow"))
        for note in answer.coverage.notes:
            self._out.print(_line(f"note: {note}", style="yellow"))
        self._out.print(_line(_costs(answer), style="dim"))

    def _quote(self, number: int, quote: Quote, several: bool) -> None:
        self._out.print()
        self._out.print(self._head(number, quote, several))
        body = _line(" ".join(quote.text.split()), style="italic" if self._out.is_terminal else "")
        self._out.print(Padding(body, (0, 0, 0, 4)))

    def _head(self, number: int, quote: Quote, several: bool) -> Line:
        self._look_up(quote.document_id)
        where = f"{self._unit[quote.document_id]} {quote.page}"
        if several:
            where = f"{printable(self._titles[quote.document_id])}, {where}"
        by = "chosen by the model" if quote.by == "model" else "found by search"
        return Line.assemble(
            (f"[{number}] ", "bold"), (where, "bold cyan"), (f"  {_MARKS[quote.status]} {quote.status}, {by}", "dim")
        )

    def _look_up(self, document_id: str) -> None:
        if document_id in self._titles:
            return
        try:
            record = self._library.get(document_id)
            self._titles[document_id], self._unit[document_id] = record.title, record.unit
        except DocumentMissing:
            self._titles[document_id], self._unit[document_id] = document_id[:_SHORT], "page"


def _progress(event: ReaderEvent) -> str:
    """What an event says on the way; nothing for those that are shown with the answer."""
    said = ""
    match event:
        case Reading(chunk, of, tokens):
            said = f"reading part {chunk} of {of} ({tokens} tokens)"
        case Skipped(chunk, of, why):
            said = f"skipped part {chunk} of {of}: {why}"
        case MemoryChanged(version, _, _, added, dropped, tokens):
            changes = [f"  + {line}" for line in added] + [f"  - {line}" for line in dropped]
            said = "\n".join([f"memory {version} ({tokens} tokens)", *changes])
        case Asking(question, level):
            said = f"{'  ' * (level - 1)}asking: {question}"
        case Partial(answer):
            said = f"so far: {answer.text}"
        case ReadAs(text):
            said = f"read as: {text}"
        case Chosen(reader, why):
            said = f"reading with {reader}: {why}"
    return said


def _costs(answer: Answer) -> str:
    usage, coverage = answer.usage, answer.coverage
    share = 100 * coverage.read / max(coverage.total, 1)
    skipped = sum(part.end - part.start for part in coverage.parts if part.how == "skipped")
    rest = (
        f"{skipped:,} left out"
        if skipped
        else "all of it"
        if coverage.read == coverage.total
        else "the rest by search only"
    )
    return (
        f"read {coverage.read:,} of {coverage.total:,} characters ({share:.1f}%), {rest} · "
        f"{usage.calls} calls, {usage.prompt_tokens:,} tokens in ({usage.cached_tokens:,} cached), "
        f"{usage.generated_tokens:,} out, {usage.seconds:.1f} s · run {answer.run_id[:_SHORT]}"
    )


def comparison_lines(comparison: Comparison) -> RenderableType:
    """Whether readers agree, and their differences."""
    head = _line("The answers agree." if comparison.agree else "The answers do not agree.", style="bold")
    return Group(head, *(_line(f"  {line}") for line in comparison.differences))


def forecast_line(forecast: Forecast) -> str:
    """What a reading would cost, in one line."""
    estimate = forecast.estimate
    minutes = f"{forecast.seconds / 60:.1f} minutes" if forecast.seconds >= 90 else f"{forecast.seconds:.0f} seconds"
    why = f" ({forecast.why})" if forecast.why else ""
    note = f"; {estimate.note}" if estimate.note else ""
    return printable(
        f"{forecast.reader}{why}: at most {estimate.calls:,} calls, {estimate.prompt_tokens:,} tokens in, "
        f"{estimate.generated_tokens:,} out, about {minutes} on this machine{note}"
    )


def readers_table(readers: Mapping[str, Reader]) -> Table:
    table = _table("reader", "reads", "how")
    table.add_row(
        "auto", "as the choice does", "chooses one of these by question and length, and says why; the default"
    )
    for name, reader in readers.items():
        table.add_row(name, "everything" if reader.whole else "what it finds", _line(reader.about))
    return table


def document_line(record: DocumentRecord) -> str:
    pages = f"{record.pages} {record.unit}{'s' if record.pages != 1 else ''}"
    line = f"{record.id[:_SHORT]}  {record.title}  ({pages}, {record.chunks} chunks)"
    return printable(line if record.status == "whole" else f"{line}  PARTIAL: {'; '.join(record.errors)}")


def documents_table(documents: Sequence[DocumentRecord]) -> Table:
    table = _table("id", "title", "pages", "chunks", "status", "added")
    for record in documents:
        added = record.added_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(
            record.id[:_SHORT], _line(record.title), str(record.pages), str(record.chunks), record.status, added
        )
    return table


def document_page(record: DocumentRecord, text: Text) -> RenderableType:
    facts = _table("", "")
    for name, value in {
        "id": record.id,
        "title": record.title,
        "file": record.source,
        "type": record.mime,
        "size": f"{record.bytes:,} bytes, {record.characters:,} characters, {record.tokens:,} tokens",
        record.unit + "s": str(record.pages),
        "chunks": str(record.chunks),
        "status": record.status,
        "errors": "\n".join(record.errors) or "none",
    }.items():
        facts.add_row(name, _line(value))
    outline = [
        _line(f"{'  ' * (heading.level - 1)}{' '.join(text.characters[heading.start : heading.end].split())}")
        for heading in text.headings[:200]
    ]
    return Group(facts, Line(), *outline) if outline else facts


def chunks_table(chunks: Sequence[ChunkRecord], text: Text) -> Table:
    table = _table("#", "characters", "pages", "tokens", "begins")
    for part in chunks:
        pages = f"{part.page_start}" if part.page_start == part.page_end else f"{part.page_start}-{part.page_end}"
        begins = " ".join(text.characters[part.start : part.start + 200].split())[:70]
        table.add_row(str(part.ordinal), f"{part.start}-{part.end}", pages, str(part.tokens), _line(begins))
    return table


def runs_table(records: Sequence[RunRecord]) -> Table:
    table = _table("id", "asked", "reader", "status", "question")
    for record in records:
        asked = record.started_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(record.id[:_SHORT], asked, record.reader, record.status, _line(record.question))
    return table


def run_page(
    record: RunRecord, steps: Sequence[StepRecord], versions: Sequence[MemoryVersionRecord] = ()
) -> RenderableType:
    """A run from its question to its answer: each call with its part, and the memory it left behind."""
    head = _line(f"{record.question}\n", style="bold")
    state = _line(f"{record.status} · {record.reader} · {record.model} · {record.id}")
    table = _table("step", "node", "chunks", "attempt", "in", "cached", "out", "seconds", "status")
    for step in steps:
        table.add_row(
            str(step.sequence),
            step.node,
            _chunks(step.chunk_ids),
            str(step.attempt),
            str(step.prompt_tokens),
            str(step.cached_tokens),
            str(step.generated_tokens),
            f"{step.seconds:.2f}",
            _line(step.error or step.status),
        )
    parts: list[RenderableType] = [head, state, table]
    for version in versions:
        parts += [Line(), _line(f"memory {version.sequence} after chunks {_chunks(version.chunk_ids)}", style="bold")]
        parts += [_line(f"  + {line}", style="green") for line in version.added]
        parts += [_line(f"  - {line}", style="red") for line in version.dropped]
        parts += [
            _line(f"  ? {line.text} ({line.mark})", style="yellow")
            for line in version.lines
            if line.mark != "supported"
        ]
    if record.stop_reason:
        parts.append(_line(f"stopped: {record.stop_reason}. Go on with: longleaf runs resume {record.id[:_SHORT]}"))
    if record.answer:
        parts += [Line(), _line(record.answer["text"], style="bold")]
        for claim in record.answer["claims"]:
            if claim.get("about"):
                parts.append(_line(f"{claim['about']} {claim['text']}"))
            parts += [_line(f"  p. {item['page']}  {' '.join(item['text'].split())}") for item in claim["quotes"]]
    return Group(*parts)


def _chunks(chunk_ids: Sequence[str]) -> str:
    """Ordinals of chunks, runs of them as first-last."""
    ordinals = sorted({int(key.rpartition(":")[2]) for key in chunk_ids})
    runs: list[list[int]] = []
    for ordinal in ordinals:
        if runs and ordinal == runs[-1][1] + 1:
            runs[-1][1] = ordinal
        else:
            runs.append([ordinal, ordinal])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def version_json(version: MemoryVersionRecord) -> dict[str, Any]:
    """A version of a run's memory as plain JSON values."""
    plain = asdict(version)
    return {**plain, "created_at": version.created_at.isoformat()}


def models_table(installed: Sequence[InstalledModel], known: Sequence[CatalogEntry]) -> Table:
    table = _table("name", "kind", "here", "MB", "licence", "source")
    for model in installed:
        table.add_row(
            _line(model.name + (" (default)" if model.default else "")),
            model.kind,
            _line(f"damaged: {model.fault}") if model.fault else "yes",
            f"{model.size / 1e6:.0f}",
            model.licence or "not stated",
            _line(model.source),
        )
    here = {model.name for model in installed}
    for entry in known:
        if entry.name not in here:
            name = entry.name + (" (default)" if entry.default else "")
            made = f"{entry.base} + adapter: " if entry.base else ""
            table.add_row(name, entry.kind, "no", "", entry.licence, f"{made}longleaf models get {entry.name}")
    return table


def calibration_page(calibration: Calibration, file: Path) -> RenderableType:
    """The heads that were found, how well each does alone, and how well they do together."""
    table = _table("layer", "head", "first", "mean reciprocal rank")
    for head in calibration.heads:
        table.add_row(str(head.layer), str(head.head), f"{head.first:.0%}", f"{head.reciprocal:.3f}")
    together = (
        f"together, on {calibration.items} other questions: the right sentence of {calibration.units:.0f} comes first "
        f"for {calibration.accuracy:.0%} (by chance {1 / calibration.units:.0%}), among the first five for "
        f"{calibration.top_five:.0%}"
    )
    spent = f"{calibration.tried} questions to choose by, {calibration.seconds:.0f} s; kept in {file}"
    return Group(table, _line(together), _line(spent))


def checks_table(checks: Sequence[Check]) -> Table:
    table = _table("", "what", "state", "to fix")
    for check in checks:
        mark = {"ok": "✓", "optional": "·", "missing": "✗"}[check.state]
        table.add_row(mark, check.what, _line(check.detail), _line(check.fix))
    return table


def document_json(record: DocumentRecord) -> dict[str, Any]:
    """A document as plain JSON values."""
    names = ("id", "title", "source", "mime", "bytes", "pages", "characters", "tokens", "chunks", "unit", "status")
    return {
        **{name: getattr(record, name) for name in names},
        "errors": list(record.errors),
        "added_at": record.added_at.isoformat(),
    }


def run_json(record: RunRecord) -> dict[str, Any]:
    """A run as plain JSON values."""
    names = ("id", "question", "reader", "settings", "prompt_hashes", "model", "status", "stop_reason", "answer")
    return {
        **{name: getattr(record, name) for name in names},
        "documents": list(record.document_ids),
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at.isoformat() if record.ended_at else None,
    }


def step_json(step: StepRecord) -> dict[str, Any]:
    """A step as plain JSON values."""
    names = ("sequence", "node", "attempt", "prompt_tokens", "generated_tokens", "cached_tokens", "seconds", "status")
    return {**{name: getattr(step, name) for name in names}, "chunks": list(step.chunk_ids), "error": step.error}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
