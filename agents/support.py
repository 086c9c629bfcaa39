"""Which figures and names of a wording its quotes do not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIGURE_OR_NAME = re.compile(r"\d+(?:[.,]\d+)*|(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+")


def unsupported(wording: str, quotes: Sequence[str], question: str) -> list[str]:
    """Figures and capitalised words of `wording` that stand neither in its quotes nor in the question.

    The first word of a sentence may be capitalised for that alone and is not looked at. Other words are not judged:
    a paraphrase is allowed, a new figure or name is not.
    """
    held = " ".join([*quotes, question]).casefold()
    found = (match.group() for match in _FIGURE_OR_NAME.finditer(wording))
    return list(dict.fromkeys(word for word in found if not re.search(rf"\b{re.escape(word.casefold())}\b", held)))
