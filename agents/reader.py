"""What every reader takes and gives: an `Ask` in, an `Answer` out, events on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, Protocol

from longleaf.engine.contract import Engine, Usage
from longleaf.memory.documents import Documents
from longleaf.memory.runs import Runs
from longleaf.retrieval.quote import QuoteStatus
from longleaf.retrieval.search import Search
from longleaf.retrieval.shelf import Shelf

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

Chooser = Literal["model", "search"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds on one answer. `passages` are read, `quotes` shown, `answer_tokens` written at most."""

    passages: int = 5
    quotes: int = 5
    answer_tokens: int = 96


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to a reader. No `document_ids` means the whole library."""

    question: str
    document_ids: tuple[str, ...] = ()
    reader: str = "retrieve"
    budget: Budget = field(default_factory=Budget)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Quote:
    """The document's own characters `[start, end)`, on `page`.

    `status` is the outcome of the check; `by` says who chose it: the model, or the search where the model named
    nothing that could be verified.
    """

    document_id: str
    start: int
    end: int
    page: int
    text: str
    status: QuoteStatus
    by: Chooser = "search"


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of an answer and the quotes it rests on. `confidence`, 0 to 1, is the evidence's, not the model's."""

    text: str
    quotes: tuple[Quote, ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class Read:
    """A span a reader looked at. `how`: read by the model, skimmed by search only, skipped, or cut short."""

    document_id: str
    start: int
    end: int
    how: Literal["read", "skimmed", "skipped", "truncated"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an answer rests on: characters the model read, of how many, and what was left out and why."""

    read: int
    total: int
    parts: tuple[Read, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader gives.

    Where `found` is false the document does not answer the question: `text` says so and `claims` is empty.
    """

    text: str
    claims: tuple[Claim, ...]
    found: bool
    reader: str
    coverage: Coverage
    usage: Usage
    run_id: str

    @property
    def quotes(self) -> tuple[Quote, ...]:
        """The quotes of all claims, best first."""
        return tuple(quote for claim in self.claims for quote in claim.quotes)


@dataclass(frozen=True, slots=True)
class Reading:
    """Progress: `tokens` of part `chunk` of `of` go to the model now."""

    chunk: int
    of: int
    tokens: int


@dataclass(frozen=True, slots=True)
class QuoteFound:
    """A quote that was checked and will be shown."""

    quote: Quote


@dataclass(frozen=True, slots=True)
class Wording:
    """A piece of the answer's wording as the model writes it."""

    text: str


ReaderEvent = Reading | QuoteFound | Wording
Emit = Callable[[ReaderEvent], None]


@dataclass(frozen=True, slots=True)
class Deps:
    """What a reader works with. Never part of a graph's state. Once `stop` is set, calls end at their next token.

    `worker` is the one thread that reads. A new thread for each question would bring a memory arena and a team of
    OpenMP threads of its own: 3 GB after thirty questions.
    """

    engine: Engine
    search: Search
    shelf: Shelf
    documents: Documents
    runs: Runs
    stop: Event = field(default_factory=Event)
    worker: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "longleaf-reader"))


class Reader(Protocol):
    """Builds a graph for one way of reading.

    The graph's input is `agents.state.ReadState`; ids and spans live in the state, never text of documents.
    """

    @property
    def name(self) -> str: ...

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the prompt files it uses; their hashes are stored with a run."""
        ...

    def build(self, deps: Deps, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]: ...
