"""Members' answers that differ: what an answer is, what tells two of them apart, and who is on which side.

After LongAgent (Zhao et al., 2024, arXiv 2402.11550): members hallucinate, so a vote is not enough, and two that differ
are given each other's text. Here an answer is characters of the sentence it rests on, so nobody can bring an invention
to the vote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from longleaf.agents.names import content, figures, named
from longleaf.retrieval.text import Span, Text

_WORDS = 5
"""Words of an answer at most. Longer ones differ in wording far more often than in what they say."""

_EDGES = " \t\"'“”‘’«».,;:!?()[]"


def answer_span(text: Text, sentence: Span, question: str, reply: str) -> Span | None:
    """The characters of a sentence that a reply gives as the answer; None where it gives none or a long one.

    Words of the question are no answer.
    """
    line = next((line for line in reply.splitlines() if line.strip()), "")
    asked = content(question)
    tokens = list(re.finditer(r"\S+", line))
    new = [place for place, token in enumerate(tokens) if content(token.group()) - asked]
    if not new:
        return None
    runs = [(new[0], new[0])]
    for place in new[1:]:
        if runs[-1][1] == place - 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    said = [line[tokens[first].start() : tokens[last].end()].strip(_EDGES) for first, last in runs]
    # Names and figures before other words: "Zubrow, the old town" names Zubrow.
    said.sort(key=lambda run: (not named(run) and not figures(run), -len(run)))
    whole = line[tokens[new[0]].start() : tokens[new[-1]].end()].strip(_EDGES)
    for answer in (whole, *said):
        words = r"\s+".join(map(re.escape, answer.split()))
        found = re.search(rf"(?<!\w){words}(?!\w)", text.slice(sentence), re.IGNORECASE) if words else None
        if found and len(answer.split()) <= _WORDS:
            return Span(sentence.start + found.start(), sentence.start + found.end())
    return None


def telling(answer: str, question: str) -> set[str]:
    """The stems that make an answer this one and no other: its names and figures, else its other words.

    Words of the question tell nothing.
    """
    facts = [*named(answer), *(answer[span.start : span.end] for span in figures(answer))]
    asked = content(question)
    return (content(" ".join(facts)) - asked) or (content(answer) - asked)


def differ(one: str, other: str, question: str) -> bool:
    """Whether two answers say different things: neither holds all that tells the other apart."""
    mine, yours = telling(one, question), telling(other, question)
    return bool(mine and yours) and not mine <= yours and not yours <= mine


def says(reply: str, answer: str, question: str) -> bool:
    """Whether a reply holds all that tells an answer apart."""
    mark = telling(answer, question)
    return bool(mark) and mark <= content(reply)


def camps(answers: Sequence[str], question: str) -> list[list[int]]:
    """Answers by what they say, as indices: each joins the first camp whose first answer it does not differ from."""
    sides: list[list[int]] = []
    for place, answer in enumerate(answers):
        camp = next((side for side in sides if not differ(answers[side[0]], answer, question)), None)
        if camp is None:
            sides.append([place])
        else:
            camp.append(place)
    return sides
