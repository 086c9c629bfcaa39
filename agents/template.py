"""Thought templates: how an earlier question was answered shows how to think about one like it.

After ToTAL (When Thoughts Meet Facts, arXiv 2510.07499): a template is the question with slots for its names and
figures, and the chain of sub-questions and the kind of quote that answered it; it holds no text of a document. They are
learned from runs whose wording their quotes hold up, and matched by words. ToTAL's refinement of templates by a model's
feedback is not done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from longleaf.agents.names import FUNCTION, content, figures, named, names, news, years
from longleaf.agents.prompt import load
from longleaf.agents.reader import Answer, Work
from longleaf.agents.support import unsupported
from longleaf.memory.records import TemplateRecord

PROMPT = "template"
_ALIKE = 0.6
"""Least share of words that two shapes have in common."""

_LETTERS = "XYZUVWABCDEFGH"
_STEPS = 4


class Slots:
    """What stands for what: one letter for each name, N1, N2 … for each figure; the same thing has the same slot."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def fill(self, text: str) -> str:
        """`text` with its names and figures replaced."""
        held = names(text)
        plain = [span for span in figures(text) if text[span.start - 1 : span.start] != "#"]
        spans = held + [span for span in plain if not any(span.overlaps(name) for name in held)]
        for span in sorted(spans, key=lambda span: -span.start):
            said = text[span.start : span.end]
            text = f"{text[: span.start]}{self._slot(said)}{text[span.end :]}"
        return text

    def _slot(self, said: str) -> str:
        key = said.casefold()
        if key not in self._known:
            figure = said[0].isdigit()
            used = sum(slot.startswith("N") == figure for slot in self._known.values())
            letter = _LETTERS[used] if used < len(_LETTERS) else f"X{used}"
            self._known[key] = f"N{used + 1}" if figure else letter
        return self._known[key]


def shape_of(question: str, slots: Slots | None = None) -> str:
    """A question with slots for its names and figures, left to right."""
    slots = slots or Slots()
    for span in sorted([*names(question), *figures(question)], key=lambda span: span.start):
        slots.fill(question[span.start : span.end])  # slots are dealt in reading order
    return slots.fill(" ".join(question.split()))


def learned(question: str, answer: Answer) -> TemplateRecord | None:
    """What a run taught; None for one that is no example: nothing found, cut short, or a wording its quotes lack."""
    quotes = [item.text for item in answer.quotes]
    if not answer.found or answer.partial or unsupported(answer.text, quotes, question):
        return None
    slots = Slots()
    shape = shape_of(question, slots)
    if shape == " ".join(question.split()):
        return None  # nothing in it is general
    steps: list[str] = []
    answers: dict[str, str] = {}
    for number, claim in enumerate([claim for claim in answer.claims if claim.about][:_STEPS], 1):
        about = claim.about
        for said, slot in answers.items():
            about = about.replace(said, slot)
        steps.append(f"Ask: {slots.fill(about)}")
        answers[" ".join(claim.text.split())] = f"#{number}"
    steps.append(_role(question, answer, slots))
    key = hashlib.sha256("\n".join([shape, *steps]).encode()).hexdigest()[:32]
    return TemplateRecord(key, shape, _words(shape), tuple(steps), answer.run_id, 1, datetime.now(UTC))


def best(question: str, known: Sequence[TemplateRecord]) -> TemplateRecord | None:
    """The template whose shape is most like the question's, of equal ones the one used most; None if none is alike."""
    wanted = set(_words(shape_of(question)))
    scored = [(_likeness(wanted, set(template.words)), template) for template in known]
    alike = [item for item in scored if item[0] >= _ALIKE]
    return max(alike, key=lambda item: (item[0], item[1].uses))[1] if alike else None


def example(work: Work) -> tuple[str, list[str]]:
    """What to put before the question, and a note that says so; nothing where the option is off or nothing is alike."""
    store = work.deps.templates
    if not work.ask.options.templates or store is None:
        return "", []
    found = best(work.ask.question, [item for item in store.list() if item.run_id != work.run_id])
    if found is None:
        return "", ["no earlier question was like this one, so no template was used"]
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(found.steps, 1))
    text = load(PROMPT).messages(shape=found.shape, steps=steps)[-1].content
    return text, [f"thought about as an earlier question was: {found.shape} (run {found.run_id[:12]})"]


def learn(work: Work, answer: Answer) -> None:
    """Keep what a finished run taught, where templates are wanted."""
    store = work.deps.templates
    template = learned(work.ask.question, answer) if work.ask.options.templates and store else None
    if store and template:
        store.learn(template)


def _words(shape: str) -> tuple[str, ...]:
    """Stems of a shape, its question words among them, without the slots."""
    bare = re.sub(r"\b(?:[A-Z]|[NX]\d+)\b", " ", shape)
    asking = {word for word in re.findall(r"[a-z]+", bare.casefold()) if word in _ASKING}
    return tuple(sorted(content(bare) | asking))


_ASKING = FUNCTION & set("who whom whose what which when where why how many much".split())


def _likeness(one: set[str], two: set[str]) -> float:
    return len(one & two) / len(one | two) if one | two else 0.0


def _role(question: str, answer: Answer, slots: Slots) -> str:
    """What kind of quote the answer rests on: which words of the question it holds, and what it adds to them."""
    best = max(answer.claims[0].quotes, key=lambda item: len(content(item.text) & content(answer.text))).text
    held = [slots.fill(name) for name in named(question) if content(name) <= content(best)]
    plain = re.sub(r"\b[A-Z]\b|\bN\d+\b", " ", shape_of(question))
    held += [f'"{word}"' for word in re.findall(r"\w+", plain) if content(word) and content(word) <= content(best)]
    if years(answer.text):
        adds = "a year"
    elif figures(answer.text):
        adds = "a figure"
    else:
        adds = "a name" if news(answer.text, [question]) else "the answer"
    return f"Find a sentence that holds {', '.join(held[:_STEPS]) or 'it'} and gives {adds}."
