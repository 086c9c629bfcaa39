"""What the commands share: their common options, and opening a library with its progress shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from longleaf.library import Library

LibraryOption = Annotated[
    Path | None,
    typer.Option("--library", "-L", help="The library's folder [default: LONGLEAF_LIBRARY, else ~/.longleaf]."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as search.passages=8.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def open_library(
    folder: Path | None, settings: list[str] | None, *, quiet: bool = False, extra: dict[str, Any] | None = None
) -> Iterator[Library]:
    """A library whose progress is shown, unless `quiet`."""
    from longleaf.library import Library
    from longleaf.render import Progress
    from longleaf.settings import parse_overrides

    overrides = parse_overrides(settings or [])
    for section, values in (extra or {}).items():
        given = {key: value for key, value in values.items() if value is not None}
        if given:
            overrides[section] = {**overrides.get(section, {}), **given}
    with (
        Progress(quiet=quiet) as progress,
        Library.open(folder, overrides=overrides, on_progress=progress.update) as library,
    ):
        yield library
