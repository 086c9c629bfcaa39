"""The commands about what a library remembers: facts (`longleaf memory`) and conversations (`longleaf chats`)."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from longleaf.options import JsonOption, LibraryOption, SetOption, open_library

memory_app = typer.Typer(help="What is known across conversations: facts, each with its source.", no_args_is_help=True)
chats_app = typer.Typer(help="Conversations: questions that belong together.", invoke_without_command=True)

FactId = Annotated[str, typer.Argument(help="A fact's id, or the beginning of it.")]
ChatId = Annotated[str, typer.Argument(help="A conversation's id, or the beginning of it.")]


@memory_app.command("list")
def memory_list(
    everything: Annotated[bool, typer.Option("--all", help="Those too that another took the place of.")] = False,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """List what is known, newest first."""
    from longleaf.recollection import fact_json, facts_table
    from longleaf.render import show

    with open_library(library, settings, quiet=True) as opened:
        facts = opened.facts(superseded=everything)
    if as_json:
        typer.echo(json.dumps([fact_json(fact) for fact in facts], indent=2))
    elif facts:
        show(facts_table(facts))
    else:
        typer.echo(
            "Nothing is remembered yet. Answers with checked quotes are, and what `longleaf memory add` is told."
        )


@memory_app.command("show")
def memory_show(
    fact: FactId, as_json: JsonOption = False, library: LibraryOption = None, settings: SetOption = None
) -> None:
    """Show a fact: its source, and what it took the place of."""
    from longleaf.recollection import fact_json, fact_page
    from longleaf.render import show

    with open_library(library, settings, quiet=True) as opened:
        record, before = opened.fact(fact)
    if as_json:
        typer.echo(json.dumps({**fact_json(record), "replaced": [fact_json(old) for old in before]}, indent=2))
    else:
        show(fact_page(record, before))


@memory_app.command("add")
def memory_add(
    text: Annotated[str, typer.Argument(help="What to remember, in your own words.")],
    document: Annotated[str | None, typer.Option("--document", help="The document it is about, by id.")] = None,
    replaces: Annotated[str | None, typer.Option("--replaces", help="The fact it corrects, by id.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Show it beside every answer it may concern.")] = False,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Remember your own word. A fact it corrects stays, marked as replaced."""
    from longleaf.recollection import fact_json

    with open_library(library, settings, quiet=as_json) as opened:
        record = opened.remember(text, document, replaces=replaces)
        if pin:
            record = opened.pin(record.id)
    typer.echo(json.dumps(fact_json(record), indent=2) if as_json else f"remembered {record.id[:12]}")


@memory_app.command("forget")
def memory_forget(
    facts: Annotated[list[str] | None, typer.Argument(help="Ids, or beginnings of them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget all facts.")] = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Delete facts for good. Runs and conversations are records of their own and stay."""
    from longleaf.printable import printable

    if bool(facts) == everything:
        raise typer.BadParameter("name facts by id, or say --all; `longleaf memory list --all` shows them")
    with open_library(library, settings) as opened:
        for fact in facts or [record.id for record in opened.facts(superseded=True)]:
            typer.echo(f"forgot {printable(opened.forget(fact).text)}")


@memory_app.command("export")
def memory_export(library: LibraryOption = None, settings: SetOption = None) -> None:
    """Write facts, questions and conversations to standard output, one JSON object a line."""
    from longleaf.recollection import exported

    with open_library(library, settings, quiet=True) as opened:
        for line in exported(opened):
            typer.echo(json.dumps(line, ensure_ascii=False))


@chats_app.callback()
def chats(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many, the one asked last first.")] = 20,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """List conversations, the one asked last first. `longleaf ask --continue` goes on with it."""
    from longleaf.recollection import chat_json, chats_table
    from longleaf.render import show

    if context.invoked_subcommand:
        return
    with open_library(library, settings, quiet=True) as opened:
        records = opened.conversations(limit)
    if as_json:
        typer.echo(json.dumps([chat_json(record) for record in records], indent=2))
    elif records:
        show(chats_table(records))
    else:
        typer.echo('No conversations yet. Ask something: longleaf ask FILE "question"')


@chats_app.command("show")
def chats_show(
    chat: ChatId, as_json: JsonOption = False, library: LibraryOption = None, settings: SetOption = None
) -> None:
    """Show a conversation: all its turns, and the summaries made of the older ones."""
    from longleaf.recollection import chat_json, chat_page, summary_json, turn_json
    from longleaf.render import show

    with open_library(library, settings, quiet=True) as opened:
        record, turns, summaries = opened.conversation(chat)
    if as_json:
        value: dict[str, Any] = chat_json(record)
        value["turns"] = [turn_json(turn) for turn in turns]
        value["summaries"] = [summary_json(summary) for summary in summaries]
        typer.echo(json.dumps(value, indent=2))
    else:
        show(chat_page(record, turns, summaries))


@chats_app.command("remove")
def chats_remove(
    chats: Annotated[list[str], typer.Argument(help="Ids, or beginnings of them.")],
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Delete conversations with their turns and summaries. Runs and facts stay."""
    from longleaf.printable import printable

    with open_library(library, settings) as opened:
        for chat in chats:
            typer.echo(f"removed {printable(opened.forget_conversation(chat).title)}")
