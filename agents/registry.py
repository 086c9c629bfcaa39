"""Readers by name. A new reader is one file and one line here."""

from __future__ import annotations

from longleaf.agents.attention import Attention
from longleaf.agents.chain import Chain
from longleaf.agents.clarify import Clarify
from longleaf.agents.direct import Direct
from longleaf.agents.errors import ReaderUnknown
from longleaf.agents.hops import Hops
from longleaf.agents.kv import Kv
from longleaf.agents.memory import Memory
from longleaf.agents.reader import Reader
from longleaf.agents.retrieve import Retrieve
from longleaf.agents.structured import Structured
from longleaf.agents.team import Team


def readers() -> dict[str, Reader]:
    """All readers by name."""
    known: tuple[Reader, ...] = (
        Retrieve(),
        Direct(),
        Kv(),
        Hops(),
        Clarify(),
        Attention(),
        Memory(),
        Chain(),
        Team(),
        Structured(),
    )
    return {reader.name: reader for reader in known}


def reader(name: str) -> Reader:
    """The reader of that name. Raises `ReaderUnknown`."""
    known = readers()
    if name not in known:
        raise ReaderUnknown(f"There is no reader {name!r}. Choose one of: {', '.join(sorted(known))}.")
    return known[name]
