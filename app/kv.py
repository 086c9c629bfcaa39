"""The commands about documents whose keys and values are kept: `longleaf kv`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from longleaf.options import JsonOption, LibraryOption, SetOption, open_library

kv_app = typer.Typer(help="Documents the model has read once and keeps ready.", no_args_is_help=True)


@kv_app.command("list")
def kv_list(as_json: JsonOption = False, library: LibraryOption = None, settings: SetOption = None) -> None:
    """List what is kept, used last first."""
    from longleaf.recollection import kept_json, kept_table
    from longleaf.render import show

    with open_library(library, settings, quiet=True) as opened:
        rows = opened.kept()
        titles = {document.id: document.title for document in opened.list()}
    if as_json:
        typer.echo(json.dumps([kept_json(row, titles) for row in rows], indent=2))
    elif rows:
        show(kept_table(rows, titles))
    else:
        typer.echo("Nothing is kept.")


@kv_app.command("warm")
def kv_warm(
    documents: Annotated[list[str], typer.Argument(help="Documents, by id or the beginning of one.")],
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Read documents now, so that questions with --reader kv need not wait for it."""
    from dataclasses import asdict

    with open_library(library, settings, quiet=as_json) as opened:
        warmed = [(opened.get(document), opened.warm(document)) for document in documents]
    if as_json:
        typer.echo(json.dumps([{"document_id": record.id, **asdict(done)} for record, done in warmed], indent=2))
        return
    for record, done in warmed:
        how = "was read already" if done.found == done.tokens else f"read in {done.seconds:.1f} s"
        size = f", {done.bytes / 1e6:,.0f} MB kept" if done.bytes else ", kept in memory alone"
        typer.echo(f"{record.id[:12]}  {done.tokens:,} tokens {how} ({done.plan}){size}")


@kv_app.command("drop")
def kv_drop(
    documents: Annotated[list[str] | None, typer.Argument(help="Documents, by id or the beginning of one.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop what is kept of all documents.")] = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Delete what is kept. The documents stay, and are read again when they are next asked."""
    if bool(documents) == everything:
        raise typer.BadParameter("name documents by id, or say --all; `longleaf kv list` shows what is kept")
    with open_library(library, settings) as opened:
        rows = [row for document in documents or [] for row in opened.drop_kept(document)]
        if everything:
            rows += opened.drop_kept()
    typer.echo(f"dropped {len(rows)} ({sum(row.bytes for row in rows) / 1e6:,.0f} MB)")
