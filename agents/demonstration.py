"""Examples that the model makes for itself from the text it is about to answer from.

After context recycling (Can Few-shot Work in Long-Context?, Cattan et al., 2024): question-answer pairs made from the
given context, each naming where it stands before it answers, come before the question, and the context is there once.
The sentences are drawn by code, evenly over the text, so that a small model need not find and copy them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from longleaf.agents.call import call_each
from longleaf.agents.names import content, figures, names
from longleaf.agents.prompt import load
from longleaf.agents.reader import Work
from longleaf.engine.contract import Request, Sampling
from longleaf.memory.records import SourceSpan
from longleaf.retrieval.quote import Source, check
from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.text import Span

PROMPT = "demonstrate"
_TOKENS = 64
_LONGEST = 300
"""Characters of a sentence that an example is made of."""


def demonstrations(work: Work, spans: Sequence[SourceSpan]) -> tuple[str, list[str]]:
    """Examples from `spans` as text to put before the question, and a note on how many held; nothing if none is wanted.

    A pair is used where its answer stands in its sentence and its question gives the answer not away.
    """
    wanted = work.ask.options.demonstrations
    chosen = _drawn(work, spans, wanted) if wanted else []
    if not chosen:
        return "", []
    prompt = load(PROMPT)
    texts = [work.deps.shelf.text(item.document_id).slice(Span(item.start, item.end)) for item in chosen]
    requests = [
        Request(
            f"example-{number}",
            prompt.messages(sentence=" ".join(text.split())),
            Sampling(max_tokens=_TOKENS, stop=("\n\n",), seed=work.ask.seed),
            prompt.prefix,
        )
        for number, text in enumerate(texts, 1)
    ]
    replies, _ = call_each(work, "demonstrate", requests)
    made = []
    for request, place in zip(requests, chosen, strict=True):
        pair = _pair(replies[request.id].text) if request.id in replies else None
        if pair and _holds(work, place, *pair):
            text = " ".join(work.deps.shelf.text(place.document_id).slice(Span(place.start, place.end)).split())
            made.append(f"The text says: {text}\nQuestion: {pair[0]}\n{pair[1]}")
    return "\n\n".join(made), [f"{len(made)} of {len(requests)} examples that the model made for itself were used"]


def _drawn(work: Work, spans: Sequence[SourceSpan], wanted: int) -> list[SourceSpan]:
    """Sentences that state something with a name or a figure, evenly over the spans."""
    able: list[SourceSpan] = []
    for item in dict.fromkeys(spans):
        characters = work.deps.shelf.text(item.document_id).characters
        for sentence in sentences(characters, Span(item.start, item.end)):
            span = trimmed(characters, sentence)
            text = characters[span.start : span.end]
            if 20 < len(text) <= _LONGEST and text[-1] in ".!" and (names(text) or figures(text)):
                able.append(SourceSpan(item.document_id, span.start, span.end))
    if len(able) <= wanted:
        return able
    return [able[(2 * number + 1) * len(able) // (2 * wanted)] for number in range(wanted)]


def _pair(reply: str) -> tuple[str, str] | None:
    """Question and answer in a reply: up to the first question mark, and what comes behind."""
    question, mark, rest = reply.strip().partition("?")
    answer = re.sub(r"(?i)^\s*(?:answer|a)\s*[:.]", "", rest.strip()).strip().splitlines()
    question = re.sub(r"(?i)^\s*question\s*:", "", question).strip()
    if not mark or not question or not answer or "\n" in question:
        return None
    return f"{question}?", answer[0].strip(" \"'“”.")


def _holds(work: Work, place: SourceSpan, question: str, answer: str) -> bool:
    """Whether a pair is a fair example: answered in its sentence, not the sentence itself, not what is asked now."""
    text = work.deps.shelf.text(place.document_id)
    span = Span(place.start, place.end)
    if not content(answer) - content(question) or content(question) == content(work.ask.question):
        return False
    outcome = check(answer, [Source(place.document_id, text, span)])
    return outcome.status == "verified" and outcome.found[0].match != "fuzzy" and len(answer) * 2 <= len(span)
