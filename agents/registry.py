"""Readers by name. A new reader is one file and one line here."""

from __future__ import annotations

from longleaf.agents.direct import Direct
from longleaf.agents.errors import ReaderUnknown
from longleaf.agents.reader import Reader
from longleaf.agents.retrieve import Retrieve


def readers() -> dict[str, Reader]:
    """All readers by name."""
    return {reader.name: reader for reader in (Retrieve(), Direct())}


def reader(name: str) -> Reader:
    """The reader of that name. Raises `ReaderUnknown`."""
    known = readers()
    if name not in known:
        raise ReaderUnknown(f"There is no reader {name!r}. Choose one of: {', '.join(sorted(known))}.")
    return known[name]
