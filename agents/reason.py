"""The last call of a reader: the model answers from checked quotes alone, and its wording streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from longleaf.agents.call import call
from longleaf.agents.denial import AMONG, MARGIN, NOT_IN_TEXT, abstains, denied
from longleaf.agents.evidence import holding, quote, without_repeats
from longleaf.agents.prompt import load
from longleaf.agents.reader import Ask, Deps, QuoteFound, Wording, Work
from longleaf.agents.state import EvidenceState
from longleaf.engine.contract import Done, Grammar, Request, Sampling
from longleaf.memory.records import SourceSpan

_YES_OR_NO = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might|must)\b", re.IGNORECASE
)


AHEAD = 2.25
"""How much less likely, in units of the natural logarithm, "not in the text" must be in a view of the text than in the
next, wider one for its answer to stand. Among few words an answer stands out more, so that to be ahead at all means
nothing. docs/benchmarks.md has the curve."""


@dataclass(frozen=True, slots=True)
class View:
    """A text to answer from, where it stands in the documents, and the chunks that it holds whole."""

    text: str
    read: Sequence[SourceSpan]
    chunk_ids: tuple[str, ...] = ()


def asked(work: Work, prompt_name: str = "reason", request_id: str = "answer", **slots: str) -> Request:
    """The request for an answer of one paragraph, from the text that fills the prompt's slots.

    With `copy_spans`, the reply is held to words that stand together in that text, or to `NOT_IN_TEXT`, where the
    engine can: a small model that copies a name may end in another one. A question that asks so may have "yes" or "no".
    """
    prompt = load(prompt_name)
    otherwise = (NOT_IN_TEXT, "yes", "no") if _YES_OR_NO.match(work.ask.question) else (NOT_IN_TEXT,)
    grammar = (
        Grammar.span("\n\n".join(slots.values()), otherwise, MARGIN, AMONG) if _held(work.ask, work.deps) else None
    )
    return Request(
        request_id,
        prompt.messages(question=work.ask.question, **slots),
        Sampling(max_tokens=work.ask.budget.answer_tokens, stop=("\n\n",), seed=work.ask.seed, grammar=grammar),
        prompt.prefix,
    )


def _held(ask: Ask, deps: Deps) -> bool:
    wanted = ask.options.copy_spans
    return "grammar" in deps.engine.card.capabilities and (wanted == "always" or (wanted == "auto" and abstains(deps)))


def weighs(ask: Ask, deps: Deps) -> bool:
    """Whether `surest` can tell views apart: the reply is held, and the model says where a text does not answer."""
    return _held(ask, deps) and abstains(deps)


def reasoned(work: Work, quotes: str) -> str:
    """The model's answer from `quotes`. For a node: it emits `Wording` as the model writes. Raises as `call` does."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    request = asked(work, quotes=quotes)
    replies = call(work, "reason", [request], on_token=lambda _, piece: emit(Wording(piece)))
    return replies["answer"].text.strip()


def surest(work: Work, views: Sequence[View], sure: float) -> tuple[str, View]:
    """The model's answer from one of several views of a text, narrow before wide, and that view.

    It is the first that denies, or in which the answer is so much clearer than in the next that `NOT_IN_TEXT` is less
    likely by `AHEAD`, or whose lead is below `sure`; else the last. For a node: it emits `Wording`. Raises as `call`
    does.
    """
    from langgraph.config import get_stream_writer

    if len(views) == 1:
        return reasoned(work, views[0].text), views[0]
    replies: list[Done] = []
    for place, view in enumerate(views):
        request = asked(work, request_id=f"answer-{place + 1}" if place else "answer", quotes=view.text)
        replies.append(call(work, "reason", [request], {request.id: view.chunk_ids})[request.id])
        lead = replies[-1].lead
        if lead is None or lead < sure or denied(replies[-1].text):
            break
    place = _clearest([reply.lead for reply in replies])
    wording = replies[place].text.strip()
    get_stream_writer()(Wording(wording))
    return wording, views[place]


def _clearest(leads: Sequence[float | None]) -> int:
    """The place of the view to answer from, by the leads of a denial; the first where one is not known."""
    for place, (lead, wider) in enumerate(pairwise(leads)):
        if lead is None or wider is None:
            return 0
        if lead <= wider - AHEAD:
            return place
    return len(leads) - 1


def resting(
    work: Work, wording: str, evidence: Sequence[EvidenceState], read: Sequence[SourceSpan]
) -> list[EvidenceState]:
    """The evidence, led by the sentence of what the model `read` that holds its wording, where no quote does.

    For a node: it emits `QuoteFound` for that sentence.
    """
    from langgraph.config import get_stream_writer

    led = holding(work, wording, evidence, read)
    if led is None:
        return list(evidence)
    get_stream_writer()(QuoteFound(quote(led, work.deps.shelf)))
    return without_repeats([led, *evidence])[: work.ask.budget.quotes]
