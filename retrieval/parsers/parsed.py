"""`Parsed`: a text and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

from longleaf.retrieval.text import Text


@dataclass(frozen=True, slots=True)
class Parsed:
    """What `parse` gives.

    parser_version: our revision and the library's; another version may give other characters, so it is a new
    text
        version and never replaces the old.
    sha256: of the file's bytes, hexadecimal. bytes: how many they are.
    """

    text: Text
    mime: str
    parser: str
    parser_version: str
    sha256: str
    bytes: int
