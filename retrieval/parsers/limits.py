"""How much one untrusted file may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one document. A file that passes one of them is a `DocumentError` that names the bound.

    file_bytes: size of the file itself.
    unpacked_bytes, unpacked_ratio: what the entries of a DOCX or EPUB may unpack to, in bytes and as a
    multiple of
        the packed size (the ratio counts from 16 MiB unpacked; small XML packs very well and is harmless).
    entries: entries of a DOCX or EPUB archive.
    pages: pages or sections.
    characters: characters of the whole text.
    depth: nesting of XML or HTML elements.
    seconds: wall time in the child process that parses.
    memory_bytes: address space of that child, where the system can cap it (Linux; elsewhere not capped).
    """

    file_bytes: int = 512 * 2**20
    unpacked_bytes: int = 512 * 2**20
    unpacked_ratio: float = 200.0
    entries: int = 20_000
    pages: int = 20_000
    characters: int = 50_000_000
    depth: int = 240
    seconds: float = 600.0
    memory_bytes: int = 6 * 2**30

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"Limits.{name} is {getattr(self, name)}; it must be above 0")


DEFAULT_LIMITS: Final = Limits()
