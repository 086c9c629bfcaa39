"""`auto`: picks a reader for a question, and says why.

By what is asked (retrieval answers lookups and fails where many places count; "Long Context vs. RAG", Li et al., 2024,
and LOFT, Lee et al., 2024, show both), by the text's length against the window, and by what the engine can do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from longleaf.agents.attend import can_attend
from longleaf.agents.kind import Asked, asked
from longleaf.agents.kv import can_keep
from longleaf.agents.part import chosen_documents
from longleaf.agents.reader import Ask, Deps
from longleaf.agents.registry import readers

AUTO = "auto"

_CHARACTERS_A_TOKEN = 12
"""More than any tokenizer packs into a token of prose: a text longer than this many a token of window cannot fit."""

_FOR_ALL = ("team", "structured", "memory", "chain")
_FOR_SUMMARY = ("memory", "chain", "structured", "team")
_NAMED = {
    "team": "several readers read all of it part by part and put their findings together",
    "structured": "it is read part by part into a table of facts",
    "memory": "it is read part by part with a memory that is rewritten at each",
    "chain": "it is read part by part, each reading handing its notes to the next",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A reader's name, and one sentence that says why it was chosen."""

    reader: str
    why: str


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of the text, about, and of the model's window; `fits` says whether `direct` can read it."""

    tokens: int
    window: int
    fits: bool

    @property
    def said(self) -> str:
        if self.fits:
            return f"the text of {self.tokens:,} tokens fits the window of {self.window:,}"
        return f"the text of about {self.tokens:,} tokens is longer than the window of {self.window:,}"


def resolve(ask: Ask, deps: Deps) -> Choice:
    """The reader for this question, of those that are registered. Raises `DocumentMissing`."""
    known = readers()
    capable = can_attend(deps)
    kind = Asked("summary", "is a task of summary") if ask.options.task == "summary" else asked(ask.question)
    return choose(kind, _length(ask, deps), capable, known, _kept(ask, deps))


def choose(kind: Asked, length: Length, capable: bool, known: Collection[str], kept: bool = False) -> Choice:
    """The reader for a kind of question, of those in `known`; `capable` is whether the engine can score a context, and
    `kept` whether the text was read before and is kept read."""
    head = f"The question {kind.sign}"
    if kept and length.fits and "kv" in known and kind.kind not in ("comparison", "multi-hop"):
        return Choice("kv", f"{head}, and what the model read of this text is kept: the question alone is computed.")
    if kind.kind in ("summary", "aggregation") or kind.everywhere:
        order = _FOR_SUMMARY if kind.kind == "summary" else _FOR_ALL
        whole = next((name for name in order if name in known), None)
        if length.fits or whole is None:
            # Without a reader of whole texts `direct` is named even where it will refuse: better than a part for all.
            return Choice("direct", f"{head}, and {length.said}: it is read whole.")
        return Choice(whole, f"{head}, and {length.said}: {_NAMED[whole]}.")
    if kind.kind in ("comparison", "multi-hop") and "hops" in known:
        return Choice("hops", f"{head}: it is taken apart and each part is looked up.")
    if kind.wordless and capable and "attention" in known:
        return Choice("attention", f"{head}: the model's own attention looks for the place.")
    return Choice("retrieve", f"{head}: search finds the passages and the model reads those.")


def _kept(ask: Ask, deps: Deps) -> bool:
    """Whether the one document that is asked is kept read for this model."""
    if deps.kv is None or not can_keep(deps):
        return False
    chosen = chosen_documents(ask, deps)
    return len(chosen) == 1 and deps.kv.holds(chosen[0].id, deps.engine.card.name)


def _length(ask: Ask, deps: Deps) -> Length:
    window = deps.engine.card.window
    chosen = chosen_documents(ask, deps)
    if sum(document.characters for document in chosen) > window * _CHARACTERS_A_TOKEN:
        return Length(sum(document.tokens for document in chosen), window, False)
    estimate = readers()["direct"].estimate(ask, deps)
    needed = estimate.prompt_tokens + estimate.generated_tokens
    return Length(estimate.prompt_tokens, window, needed <= window)
