"""The last call of a reader: the model answers from checked quotes alone, and its wording streams."""

from __future__ import annotations

from longleaf.agents.call import call
from longleaf.agents.denial import NOT_IN_TEXT
from longleaf.agents.prompt import load
from longleaf.agents.reader import Wording, Work
from longleaf.engine.contract import Grammar, Request, Sampling


def asked(work: Work, prompt_name: str = "reason", request_id: str = "answer", **slots: str) -> Request:
    """The request for an answer of one paragraph, from the text that fills the prompt's slots.

    With the option `copy_spans`, the reply is held to words that stand together in that text, or to `NOT_IN_TEXT`,
    where the engine can hold it.
    """
    prompt = load(prompt_name)
    held = work.ask.options.copy_spans and "grammar" in work.deps.engine.card.capabilities
    grammar = Grammar.span("\n\n".join(slots.values()), otherwise=(NOT_IN_TEXT,)) if held else None
    return Request(
        request_id,
        prompt.messages(question=work.ask.question, **slots),
        Sampling(max_tokens=work.ask.budget.answer_tokens, stop=("\n\n",), seed=work.ask.seed, grammar=grammar),
        prompt.prefix,
    )


def reasoned(work: Work, quotes: str) -> str:
    """The model's answer from `quotes`. For a node: it emits `Wording` as the model writes. Raises as `call` does."""
    from langgraph.config import get_stream_writer

    emit = get_stream_writer()
    request = asked(work, quotes=quotes)
    replies = call(work, "reason", [request], on_token=lambda _, piece: emit(Wording(piece)))
    return replies["answer"].text.strip()
