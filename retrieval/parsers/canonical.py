"""Canonical characters: what every parser's text is made of.

NFC, lines ended by `\\n`, no control characters but `\\n` and `\\t`, no invisible formatting characters,
Latin ligatures spelt out, one kind of space. NFC and not NFKC: NFKC would turn `x²` into `x2`, which is not
a quote. Joiners (U+200C, U+200D) stay, since Persian, Indic scripts and emoji are misspelt without them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

LIGATURES: Final = {
    0xFB00: "ff",
    0xFB01: "fi",
    0xFB02: "fl",
    0xFB03: "ffi",
    0xFB04: "ffl",
    0xFB05: "st",
    0xFB06: "st",
}
SPACES: Final = (0x00A0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
LINE_ENDS: Final = (0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029)
INVISIBLE: Final = (
    0x00AD,  # soft hyphen
    0x061C,
    0x180E,
    0x200B,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),  # bidirectional overrides: they show a reader other text than the model reads
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),  # tag characters: text no reader can see
)


def canonical(text: str) -> str:
    """`text` in canonical characters. Idempotent."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").translate(_table()))


def collapse(text: str) -> str:
    """`text` on one line, each run of white space one space."""
    return re.sub(r"\s+", " ", text).strip()


@cache
def _table() -> dict[int, str]:
    table = {code: "" for code in (*range(0x20), *range(0x7F, 0xA0), *INVISIBLE)}
    table |= {code: "" for plane in range(0x11) for code in (plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF)}
    table |= {code: "" for code in range(0xFDD0, 0xFDF0)}
    table |= {code: "�" for code in range(0xD800, 0xE000)}
    table |= {code: " " for code in SPACES} | {code: "\n" for code in LINE_ENDS} | LIGATURES
    return table | {0x09: "\t", 0x0A: "\n"}
