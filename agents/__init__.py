"""The reading agents: one LangGraph graph a file, each taking an `Ask` and giving an `Answer`.

`reader` holds what they share, `registry` knows them by name, `run` runs one with its checkpoints and its rows in SQL,
`call` makes the model calls, `evidence` turns what was found into checked quotes. Prompts are files in `prompts/`.
"""

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
