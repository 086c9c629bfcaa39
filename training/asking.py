"""Making up questions: what a model that does it is trained on, how it is asked, and what its reply comes to."""

from __future__ import annotations

import random

from example import Example
from sources import Passage, Pool, Question

from longleaf.engine.contract import Message

_SYSTEM = (
    "Choose a few words of the sentence and ask the question that they answer. Write the words, then the question on a "
    "line of its own."
)


def asking(draw: random.Random, pool: Pool) -> Example:
    """A question on one sentence of a paragraph, as a person asked it."""
    question = draw.choice(pool.short)
    text, sentence = question.passages[0].text, question.evidence[0]
    reply = f"{question.answers[0]}\n{question.text}"
    return Example("ask", question.source, _SYSTEM, _user(text, sentence), "", reply, question.text)


def prompt(text: str, sentence: str) -> list[Message]:
    """What such a model is asked for a sentence of a text."""
    return [Message("system", _SYSTEM), Message("user", _user(text, sentence))]


def made_up(reply: str, passage: Passage, sentence: str) -> Question | None:
    """The question of a reply; None where it is none, gives its answer away, or its answer is not the sentence's."""
    answer, _, asked = reply.partition("\n")
    answer, asked = answer.strip(), asked.strip()
    sound = (
        asked.endswith("?")
        and "\n" not in asked
        and 4 <= len(asked.split()) <= 40
        and 0 < len(answer) <= 90
        and answer in sentence
        and answer.lower() not in asked.lower()
    )
    return Question(asked, "made up", asked, (answer,), (passage,), (0,), (sentence,)) if sound else None


def _user(text: str, sentence: str) -> str:
    return f"<text>\n{text}\n</text>\n\nSentence: {sentence}"
