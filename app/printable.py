"""Text of documents, models and file names is data: on its way to a terminal it loses what would steer one."""

from __future__ import annotations

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` without control characters other than tab and line feed, and with U+FFFD for what is no character."""
    return _SURROGATE.sub("\ufffd", _STEERING.sub("", text))
