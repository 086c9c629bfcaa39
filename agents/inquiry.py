"""Questions that a reader raises itself: the model's where they are questions, new and grounded, else code's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from longleaf.agents.names import FUNCTION, content, figures, named

_FEWEST, _MOST = 3, 24
"""Words of a question."""

_NUMBER = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.):]|[Qq]\d*[.:])\s*")
_OPENING = re.compile(
    r"(?:(?:in|on|at|from|by|for|of|to|with)\s+)?(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|"
    r"did|has|have|had|can|could|will|would|should|may|must)\b",
    re.IGNORECASE,
)
_LIKE = 0.75
"""Share of words at which a question is another one's repeat."""


def of_reply(reply: str, question: str, known: Sequence[str], ground: str, limit: int) -> list[str]:
    """The questions of a model's reply, at most `limit`.

    Dropped: what is no question, what repeats `question`, one of `known` or another line, and what shares no word with
    `ground` or the question: it would be about something else.
    """
    kept: list[str] = []
    near = content(f"{ground} {question}")
    for line in re.split(r"\n+|(?<=\?)\s+", reply):
        asked = " ".join(_NUMBER.sub("", line).split()).strip("\"“”'*_ ")
        if not _FEWEST <= len(asked.split()) <= _MOST or not _OPENING.match(asked):
            continue
        if not asked.endswith("?"):
            continue
        if repeated(asked, [question, *known, *kept]) or not content(asked) & near:
            continue
        kept.append(asked)
    return kept[:limit]


def by_form(question: str, known: Sequence[str], ground: str, limit: int) -> list[str]:
    """Questions made by code: of the question's words that `ground` does not hold, and of the names it brings up."""
    missing = unanswered(question, ground)
    names = new_names(question, ground)
    made = [f"What does the text say about {' '.join(missing)}?"] if missing else []
    made += [f"What does the text say about {name} and {' '.join(missing)}?" for name in names if missing]
    made += [f"What does the text say about {name}?" for name in names]
    made += [f"What does the text say about {word}?" for word in missing if len(missing) > 1]
    kept: list[str] = []
    for asked in made:
        if not repeated(asked, [*known, *kept]):
            kept.append(asked)
    return kept[:limit]


def unanswered(question: str, ground: str) -> list[str]:
    """Words of the question, as they are written there, that `ground` does not hold."""
    held = content(ground)
    words = [word for word in re.findall(r"\w+", question) if word.lower() not in FUNCTION]
    return [word for word in dict.fromkeys(words) if content(word) - held]


def answered_share(question: str, ground: str) -> float:
    """Share of the question's words that `ground` holds, 0 to 1; 1 for a question of function words alone."""
    wanted = content(question)
    return len(wanted & content(ground)) / len(wanted) if wanted else 1.0


def new_names(question: str, ground: str) -> list[str]:
    """Names and figures that `ground` brings up and the question does not hold, those first that come most often."""
    asked = content(question)
    found = [" ".join(name.split()) for name in [*named(ground), *(ground[s.start : s.end] for s in figures(ground))]]
    new = [name for name in dict.fromkeys(found) if content(name) - asked and len(name.split()) <= 5]
    return sorted(new, key=lambda name: -ground.count(name))


def repeated(asked: str, known: Iterable[str]) -> bool:
    """Whether a question asks what one of `known` asks, by their words."""
    mine = content(asked) - _FILLING
    for other in known:
        yours = content(other) - _FILLING
        if mine == yours or (mine | yours and len(mine & yours) / len(mine | yours) >= _LIKE):
            return True
    return not mine


_FILLING = frozenset(("text", "say", "said"))
