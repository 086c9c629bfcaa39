"""The reading agents: one LangGraph graph a file, each taking an `Ask` and giving an `Answer`.

`reader` holds what they share, `registry` knows them by name, `run` runs one with its checkpoints and its rows in SQL,
`call` makes the model calls, `evidence` turns what was found into checked quotes. Prompts are files in `prompts/`.
Names are loaded on first use (PEP 562), so that `prompt` and `denial` can be had where only the engine is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longleaf.agents.errors import NothingToRead, QuestionEmpty, ReaderUnknown, RunEnded
    from longleaf.agents.reader import (
        Answer,
        Ask,
        Asking,
        Budget,
        Chosen,
        Claim,
        Coverage,
        Deps,
        Estimate,
        MemoryChanged,
        Options,
        Partial,
        Quote,
        QuoteFound,
        Reader,
        ReaderEvent,
        Reading,
        Skipped,
        Wording,
        Work,
    )

__all__ = [
    "Answer",
    "Ask",
    "Asking",
    "Budget",
    "Chosen",
    "Claim",
    "Coverage",
    "Deps",
    "Estimate",
    "MemoryChanged",
    "NothingToRead",
    "Options",
    "Partial",
    "QuestionEmpty",
    "Quote",
    "QuoteFound",
    "Reader",
    "ReaderEvent",
    "ReaderUnknown",
    "Reading",
    "RunEnded",
    "Skipped",
    "Wording",
    "Work",
]

_ERRORS = frozenset({"NothingToRead", "QuestionEmpty", "ReaderUnknown", "RunEnded"})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'longleaf.agents' has no attribute {name!r}")
    return getattr(import_module(f"longleaf.agents.{'errors' if name in _ERRORS else 'reader'}"), name)


def __dir__() -> list[str]:
    return __all__
