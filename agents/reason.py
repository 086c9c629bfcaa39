"""The last call of a reader: the model answers from checked quotes alone, and its wording streams."""

from __future__ import annotations

from longleaf.agents.call import call
from longleaf.agents.prompt import load
from longleaf.agents.reader import Wording, Work
from longleaf.engine.contract import Request, Sampling


def asked(work: Work, quotes: str) -> Request:
    """The request for an answer from `quotes`, of one paragraph."""
    prompt = load("reason")
    return Request(
        "answer",
        prompt.messages(quotes=quotes, question=work.ask.question),
        Sampling(max_tokens=work.ask.budget.answer_tokens, stop=("\n\n",), seed=work.ask.seed),
        prompt.prefix,
    )


def reasoned(work: Work, quotes: str) -> str:
    """The model's answer from `quotes`. For a node: it emits `Wording` as the model writes. Raises as `call` does."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    replies = call(work, "reason", [asked(work, quotes)], on_token=lambda _, piece: emit(Wording(piece)))
    return replies["answer"].text.strip()
