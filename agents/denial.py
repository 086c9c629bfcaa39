"""The words with which a model says that what it was given does not hold the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a bare GPU host can import this module, not that one
    from longleaf.agents.reader import Deps

NOT_IN_TEXT = "Not in the text."
"""What the default reader is trained to say, and what a reply held to the quotes' words may say instead."""


MARGIN = -0.75
"""How much likelier than the best span `NOT_IN_TEXT` must be to be begun, in units of the natural logarithm.

Below zero: the default reader denies too seldom by itself. docs/benchmarks.md has the curve.
"""


AMONG = 8
"""How many of the likeliest spans a reply that is one of them is chosen from; see `Grammar.span`."""


def abstains(deps: Deps) -> bool:
    """Whether the model says so where a text does not answer, and quotes nothing where nothing helps: then what it does
    say means something."""
    return "abstains" in deps.engine.card.capabilities


def denied(reply: str) -> bool:
    """Whether a reply says that the answer is not in the text, and nothing else. Case and punctuation do not matter."""
    return _words(reply) == _words(NOT_IN_TEXT)


def quotes_nothing(reply: str) -> bool:
    """Whether a reply that was to quote gives nothing: it closes the quotation at once, or says that there is none."""
    return not _words(reply) or denied(reply)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
