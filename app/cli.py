"""The command line. Commands import what they need when they run, so that `longleaf --help` is quick."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from longleaf.kv import kv_app
from longleaf.models import models_app
from longleaf.options import JsonOption, LibraryOption, SetOption
from longleaf.options import open_library as _library
from longleaf.remembered import chats_app, memory_app

if TYPE_CHECKING:
    from longleaf.agents.forecast import Forecast
    from longleaf.agents.reader import Task
    from longleaf.library import AnswerEvent, Library

DONE, FAILED, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130
_STOPPED = "\nlongleaf: stopped."

EPILOG = (
    "Exit codes: 0 done; 1 failed, the message says why; 2 wrong usage; 3 the document does not answer the question; "
    "130 stopped with Ctrl-C, the run can be resumed."
)


class _Commands(TyperGroup):
    """All commands. Ctrl-C in any of them is told; typer would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(_STOPPED, err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="Asks long documents questions, on your own machine, with quotes checked against the page.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
runs_app = typer.Typer(help="Past runs: what was asked, read and answered.", invoke_without_command=True)
app.add_typer(runs_app, name="runs")
app.add_typer(models_app, name="models")
app.add_typer(memory_app, name="memory")
app.add_typer(chats_app, name="chats")
app.add_typer(kv_app, name="kv")


def main() -> None:
    """Entry point. Turns our errors into one message and an exit code."""
    from longleaf.engine.errors import LongleafError
    from longleaf.printable import printable

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows few characters gets the answer all the same
    logging.basicConfig(level=os.environ.get("LONGLEAF_LOG", "ERROR").upper(), format="%(name)s: %(message)s")
    try:
        app()
    except LongleafError as error:
        sys.stderr.write(f"longleaf: {printable(str(error))}\n")
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        sys.stderr.write(f"{_STOPPED}\n")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`); keep Python from complaining as it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(DONE) from None


def _version(wanted: bool) -> None:
    if wanted:
        from longleaf import __version__

        typer.echo(f"longleaf {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Asks long documents questions, on your own machine, with quotes checked against the page."""


@app.command(epilog=EPILOG)
def ask(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[FILE|ID]... QUESTION", help="What to read (default: all), then the question."),
    ],
    reader: Annotated[
        str | None,
        typer.Option(help="How to read; `longleaf readers` lists the ways [default: the setting answer.reader]."),
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Write a summary in the light of the question.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost at most: calls, tokens, minutes. Reads nothing.")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(metavar="READER,READER", help="Ask two readers, such as retrieve,memory; show how they differ."),
    ] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Skip parts that nothing in the question points to.")] = False,
    stop_when_sure: Annotated[
        bool, typer.Option("--stop-when-sure", help="Stop reading once the answer stays the same.")
    ] = False,
    provisional: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Show a provisional answer after every N parts.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The reading model; see `longleaf models list`.")] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the model.")] = None,
    ocr: Annotated[bool, typer.Option("--ocr", help="Read scanned pages too (needs longleaf[ocr]).")] = False,
    chat: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", help="Ask in this conversation [default: a new one].")
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help="Ask in the conversation that was asked last.")
    ] = False,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Ask a question of files, of documents in the library, or of all of them."""
    from longleaf.printable import printable

    *sources, question = words
    extra = {
        "model": {"name": model, "base_url": base_url},
        "read": {"gate": gate or None, "stop_when_sure": stop_when_sure or None, "provisional_every": provisional},
    }
    task: Task = "summary" if summary else "answer"
    with _library(library, settings, quiet=as_json, extra=extra) as opened:
        if not sources and _is_file(question):
            name = printable(question)
            raise typer.BadParameter(f'{name} is a file. What is the question? longleaf ask {name} "…"')
        documents = [
            opened.add(source, ocr=ocr).id if _is_path(source) else opened.get(source).id for source in sources
        ]
        if compare is not None:
            _compare(opened, question, documents, [name.strip() for name in compare.split(",")], as_json)
        elif dry_run:
            _forecast(opened.estimate(question, documents, reader=reader, task=task), as_json)
        else:
            place = _conversation(opened, chat, go_on)
            _show(
                opened,
                lambda: opened.stream(question, documents, reader=reader, task=task, conversation=place),
                as_json,
            )


def _conversation(library: Library, chat: str | None, go_on: bool) -> str | None:
    """Where a question is asked: in a conversation that is there, or a new one if such are kept."""
    from longleaf.memory.errors import ConversationMissing

    if chat and go_on:
        raise typer.BadParameter("say --conversation ID or --continue, not both")
    if chat:
        return chat
    if not go_on:
        return "new" if library.settings.memory.remember else None
    last = library.conversations(1)
    if not last:
        raise ConversationMissing("There is no conversation to go on with. Ask without --continue to begin one.")
    return last[0].id


def _compare(library: Library, question: str, documents: list[str], readers: list[str], as_json: bool) -> None:
    """Print the answers of several readers and their differences; exit as `ask` does."""
    from longleaf.agents.compare import comparison_json
    from longleaf.render import Printer, comparison_lines, show

    printer = Printer(library, quiet=as_json)
    comparison = library.compare(question, documents, readers=readers, on_event=printer.progress)
    if as_json:
        typer.echo(json.dumps(comparison_json(comparison), indent=2))
    else:
        for answer in comparison.answers:
            typer.echo(f"{answer.reader}:")
            printer.answer(answer)
            typer.echo()
        show(comparison_lines(comparison))
    if any(answer.partial for answer in comparison.answers):
        raise typer.Exit(FAILED)
    if not any(answer.found for answer in comparison.answers):
        raise typer.Exit(NOT_FOUND)


def _forecast(forecast: Forecast, as_json: bool) -> None:
    from dataclasses import asdict

    from longleaf.render import forecast_line

    typer.echo(json.dumps(asdict(forecast), indent=2) if as_json else forecast_line(forecast))


@app.command()
def readers(as_json: JsonOption = False) -> None:
    """List the ways of reading."""
    from longleaf.agents.registry import readers as known
    from longleaf.render import readers_table, show

    if as_json:
        typer.echo(json.dumps({name: reader.about for name, reader in known().items()}, indent=2))
    else:
        show(readers_table(known()))


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(help="Files: PDF, DOCX, EPUB, HTML, Markdown, text.")],
    ocr: Annotated[bool, typer.Option("--ocr", help="Read scanned pages too (needs longleaf[ocr]).")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read files again that are here, after an upgrade of Longleaf.")
    ] = False,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Add files to the library. One that cannot be read is named, and the others are added."""
    from longleaf.engine.errors import LongleafError
    from longleaf.memory.errors import LibraryBusy
    from longleaf.printable import printable
    from longleaf.render import document_json, document_line

    failed = 0
    added = []
    with _library(library, settings, quiet=as_json) as opened:
        for file in files:
            try:
                record = opened.add(file, ocr=ocr, again=again)
            except LibraryBusy:
                raise
            except LongleafError as error:
                failed += 1
                typer.echo(f"longleaf: {printable(str(error))}", err=True)
                continue
            added.append(record)
            if not as_json:
                typer.echo(document_line(record))
    if as_json:
        typer.echo(json.dumps([document_json(record) for record in added], indent=2))
    if failed:
        raise typer.Exit(FAILED)


@app.command("list")
def list_(as_json: JsonOption = False, library: LibraryOption = None, settings: SetOption = None) -> None:
    """List the documents of the library."""
    from longleaf.render import document_json, documents_table, show

    with _library(library, settings, quiet=True) as opened:
        documents = opened.list()
    if as_json:
        typer.echo(json.dumps([document_json(document) for document in documents], indent=2))
    elif documents:
        show(documents_table(documents))
    else:
        typer.echo("No documents yet. Add one with `longleaf add FILE`.")


@app.command("show")
def show_(
    document: Annotated[str, typer.Argument(help="A document's id, or the beginning of it.")],
    chunks: Annotated[bool, typer.Option("--chunks", help="Show how it was cut.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Print its text as it was read.")] = False,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Show a document: what was read of it, its chunks, its text."""
    from longleaf.printable import printable
    from longleaf.render import chunks_table, document_json, document_page, show

    with _library(library, settings, quiet=True) as opened:
        record = opened.get(document)
        if as_json:
            value = document_json(record)
            if chunks:
                value["chunks"] = [
                    {"id": part.id, "start": part.start, "end": part.end, "pages": [part.page_start, part.page_end]}
                    for part in opened.chunks(record.id)
                ]
            if text:
                value["text"] = opened.text(record.id).characters
            typer.echo(json.dumps(value, indent=2))
        elif text:
            typer.echo(printable(opened.text(record.id).characters))
        elif chunks:
            show(chunks_table(opened.chunks(record.id), opened.text(record.id)))
        else:
            show(document_page(record, opened.text(record.id)))


@app.command()
def remove(
    documents: Annotated[list[str], typer.Argument(help="Ids, or beginnings of them.")],
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Remove documents from the library. The files they came from are not touched."""
    from longleaf.printable import printable

    with _library(library, settings) as opened:
        for document in documents:
            typer.echo(f"removed {printable(opened.remove(document).title)}")


@app.command()
def index(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make all chunks and vectors anew.")] = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """The search index: rebuild it after a change of embedder or chunk sizes."""
    if not rebuild:
        raise typer.BadParameter("say --rebuild to make the index anew")
    with _library(library, settings) as opened:
        typer.echo(f"rebuilt the index of {opened.rebuild()} documents")


@app.command()
def doctor(as_json: JsonOption = False, library: LibraryOption = None, settings: SetOption = None) -> None:
    """Check what is installed and what is missing, with the command that fixes it."""
    from longleaf.doctor import examine
    from longleaf.render import checks_table, show
    from longleaf.settings import load, parse_overrides

    checks = examine(load(library, parse_overrides(settings or [])))
    if as_json:
        typer.echo(json.dumps([check.__dict__ for check in checks], indent=2))
    else:
        show(checks_table(checks))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(FAILED)


@runs_app.callback()
def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """List past runs, newest first."""
    from longleaf.render import run_json, runs_table, show

    if context.invoked_subcommand:
        return
    with _library(library, settings, quiet=True) as opened:
        records = opened.runs(limit)
    if as_json:
        typer.echo(json.dumps([run_json(record) for record in records], indent=2))
    elif records:
        show(runs_table(records))
    else:
        typer.echo('No runs yet. Ask something: longleaf ask FILE "question"')


@runs_app.command("show")
def runs_show(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Replay a run: what was read in which order, every version of its memory, its quotes, tokens and seconds."""
    from longleaf.render import run_json, run_page, show, step_json, version_json

    with _library(library, settings, quiet=True) as opened:
        record, steps = opened.run(run)
        versions = opened.memory_of(record.id)
    if as_json:
        told = [step_json(step) for step in steps]
        typer.echo(
            json.dumps(
                {**run_json(record), "steps": told, "memory": [version_json(each) for each in versions]}, indent=2
            )
        )
    else:
        show(run_page(record, steps, versions))


@runs_app.command("answer")
def runs_answer(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """A provisional answer from what a stopped run has read so far. The run stays as it is and can be resumed."""
    from longleaf.agents.run import to_json
    from longleaf.render import Printer

    with _library(library, settings, quiet=as_json) as opened:
        answer = opened.provisional(run)
        if as_json:
            typer.echo(json.dumps(to_json(answer), indent=2))
        else:
            Printer(opened, quiet=False).answer(answer)
    if not answer.found:
        raise typer.Exit(NOT_FOUND)


@runs_app.command("resume")
def runs_resume(
    run: Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")],
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Go on with a run that was stopped."""
    with _library(library, settings, quiet=as_json) as opened:
        _show(opened, lambda: opened.resume(run), as_json, run)


def _show(
    library: Library, events: Callable[[], Iterator[AnswerEvent]], as_json: bool, resumed: str | None = None
) -> None:
    """Print an answer as it comes, and exit by whether there is one."""
    from longleaf.agents.run import to_json
    from longleaf.render import Printer

    printer = Printer(library, quiet=as_json)
    before = {record.id for record in library.runs(1)}
    try:
        with closing(cast("Generator[AnswerEvent]", events())) as following:
            answer = printer.follow(following)
    except KeyboardInterrupt:
        stopped = [library.run(resumed)[0]] if resumed else [run for run in library.runs(1) if run.id not in before]
        hint = f" Go on with: longleaf runs resume {stopped[0].id[:12]}" if stopped else ""
        typer.echo(f"{_STOPPED}{hint}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(to_json(answer), indent=2))
    else:
        printer.answer(answer)
    if answer.partial:
        typer.echo(
            f"longleaf: this is partial: {answer.coverage.notes[0]}. "
            f"Go on with: longleaf runs resume {answer.run_id[:12]}",
            err=True,
        )
        raise typer.Exit(FAILED)
    if not answer.found:
        raise typer.Exit(NOT_FOUND)


def _is_path(word: str) -> bool:
    """Whether a word names a file rather than a document: it is there, or it looks like one that should be."""
    return _there(word) is not None or os.sep in word or bool(Path(word).suffix)


def _is_file(word: str) -> bool:
    place = _there(word)
    return place is not None and place.is_file()


def _there(word: str) -> Path | None:
    """The file or folder of this name, if any. A question may be longer than a name can be, or begin with ~."""
    try:
        place = Path(word).expanduser()
        return place if place.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None
