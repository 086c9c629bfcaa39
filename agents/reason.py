"""The last call of a reader: the model answers from checked quotes alone, and its wording streams."""

from __future__ import annotations

import re
from collections.abc import Sequence

from longleaf.agents.call import call
from longleaf.agents.denial import AMONG, MARGIN, NOT_IN_TEXT
from longleaf.agents.evidence import holding, quote, without_repeats
from longleaf.agents.prompt import load
from longleaf.agents.reader import QuoteFound, Wording, Work
from longleaf.agents.state import EvidenceState
from longleaf.engine.contract import Grammar, Request, Sampling

_YES_OR_NO = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|may|might|must)\b", re.IGNORECASE
)


def asked(work: Work, prompt_name: str = "reason", request_id: str = "answer", **slots: str) -> Request:
    """The request for an answer of one paragraph, from the text that fills the prompt's slots.

    With `copy_spans`, the reply is held to words that stand together in that text, or to `NOT_IN_TEXT`, where the
    engine can: a small model that copies a name may end in another one. A question that asks so may have "yes" or "no".
    """
    prompt = load(prompt_name)
    otherwise = (NOT_IN_TEXT, "yes", "no") if _YES_OR_NO.match(work.ask.question) else (NOT_IN_TEXT,)
    grammar = Grammar.span("\n\n".join(slots.values()), otherwise, MARGIN, AMONG) if _held(work) else None
    return Request(
        request_id,
        prompt.messages(question=work.ask.question, **slots),
        Sampling(max_tokens=work.ask.budget.answer_tokens, stop=("\n\n",), seed=work.ask.seed, grammar=grammar),
        prompt.prefix,
    )


def _held(work: Work) -> bool:
    wanted, able = work.ask.options.copy_spans, work.deps.engine.card.capabilities
    return "grammar" in able and (wanted == "always" or (wanted == "auto" and "abstains" in able))


def reasoned(work: Work, quotes: str) -> str:
    """The model's answer from `quotes`. For a node: it emits `Wording` as the model writes. Raises as `call` does."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    request = asked(work, quotes=quotes)
    replies = call(work, "reason", [request], on_token=lambda _, piece: emit(Wording(piece)))
    return replies["answer"].text.strip()


def resting(
    work: Work, wording: str, evidence: Sequence[EvidenceState], read: int, neighbours: int = 1
) -> list[EvidenceState]:
    """The evidence, led by the sentence that holds the wording where that one stands beside the first `read` quotes.

    For a node: it emits `QuoteFound` for that sentence. `neighbours` are those of `evidence.reading`.
    """
    from langgraph.config import get_stream_writer

    shelf = work.deps.shelf
    led = holding(wording, evidence[:read], shelf, neighbours)
    if led is None:
        return list(evidence)
    get_stream_writer()(QuoteFound(quote(led, shelf)))
    return without_repeats([led, *evidence])[: work.ask.budget.quotes]
