"""What of a wording its quotes do not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIGURE = r"\d+(?:[.,]\d+)*"
_FIGURE_OR_WORD = re.compile(rf"{_FIGURE}|(?<![.!?]\s)(?<!^)\b[^\W\d_][\w'-]+")


def unsupported(wording: str, quotes: Sequence[str], question: str) -> list[str]:
    """Figures and capitalised words of `wording` that stand neither in its quotes nor in the question.

    The first word of a sentence may be capitalised for that alone and is not looked at. Other words are not judged:
    a paraphrase is allowed, a new figure or name is not.
    """
    held = " ".join([*quotes, question]).casefold()
    figures = set(re.findall(_FIGURE, held))
    new = [
        word
        for word in map(_bare, _FIGURE_OR_WORD.findall(wording))
        if (word[0].isdigit() and word not in figures)
        or (word[0].isupper() and not re.search(rf"\b{re.escape(word.casefold())}\b", held))
    ]
    return list(dict.fromkeys(new))


def _bare(word: str) -> str:
    """A name without the possessive or the closing quotation mark behind it."""
    return word.rstrip("'-").removesuffix("'s")


def unrelated(wording: str, quotes: Sequence[str]) -> bool:
    """Whether no word of four letters or more, and no figure, of `wording` stands in its quotes."""
    held = set(re.findall(r"\w+", " ".join(quotes).casefold()))
    words = [word for word in re.findall(r"\w+", wording.casefold()) if len(word) >= 4 or word.isdigit()]
    return bool(words) and held.isdisjoint(words)


def circular(wording: str) -> bool:
    """Whether `wording` ends in the same words five times over, as a small model's may."""
    words = re.findall(r"\w+", wording.casefold())
    return any(words[-5 * period :] == words[-period:] * 5 for period in range(1, len(words) // 5 + 1))
