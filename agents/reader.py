"""What every reader takes and gives: an `Ask` in, an `Answer` out, events on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, Protocol

from longleaf.engine.contract import Engine, Keeping, KeptFile, Usage
from longleaf.memory.documents import Documents
from longleaf.memory.runs import Runs
from longleaf.memory.templates import Templates
from longleaf.memory.versions import Versions
from longleaf.retrieval.quote import QuoteStatus
from longleaf.retrieval.search import Search
from longleaf.retrieval.shelf import Shelf

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

Chooser = Literal["model", "search"]
Task = Literal["answer", "summary"]
Overwrite = Literal["guarded", "plain"]
CopySpans = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds on one answer.

    `passages` are read, `quotes` shown, `answer_tokens` written at most. Readers of whole documents give the model
    parts of at most `part_tokens` (its own tokens) and carry at most `memory_tokens` from part to part; `members`
    parts are read at once by a team. Searches over questions go `depth` deep with `branches` a level; a question is
    taken apart into at most `hops`.
    """

    passages: int = 5
    quotes: int = 5
    answer_tokens: int = 96
    part_tokens: int = 1024
    memory_tokens: int = 256
    members: int = 8
    depth: int = 2
    branches: int = 3
    hops: int = 3


@dataclass(frozen=True, slots=True)
class Options:
    """Ways of reading that a reader may offer; one that does not offer them pays no attention.

    `task` is what is wanted: an answer, or a summary. `gate` skips parts that search scores as irrelevant,
    `stop_when_sure` stops reading once the answer has not changed for a while; coverage tells of both.
    `provisional_every` asks for a provisional answer after every so many parts; 0 for none. `rerank` orders what
    search found by the model's own attention. `templates` reuses ways of thinking from earlier questions,
    `demonstrations` is how many examples the model makes for itself. `schema` names the memory's form.
    `copy_spans` says whether the wording of an answer is held to words that stand together in what it is made from:
    "auto" where the model was trained to answer so.
    `overwrite` "plain" lets the model's reply alone be the next memory, as in MemAgent; "guarded" lets code keep and
    add checked lines within the budget. `kv_policy` is how a reply reads a text that is kept read, and `kv_budget` how
    many of its tokens a step reads where the policy chooses.
    """

    task: Task = "answer"
    gate: bool = False
    stop_when_sure: bool = False
    provisional_every: int = 0
    rerank: bool = False
    templates: bool = False
    demonstrations: int = 0
    schema: str = "auto"
    overwrite: Overwrite = "guarded"
    copy_spans: CopySpans = "auto"
    kv_policy: str = "dense"
    kv_budget: int = 512


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to a reader. No `document_ids` means the whole library. A run keeps it and is resumed from it.

    In a conversation, `conversation` is its id, and `asked` what was typed where it was read as something else.
    """

    question: str
    document_ids: tuple[str, ...] = ()
    reader: str = "auto"
    budget: Budget = field(default_factory=Budget)
    options: Options = field(default_factory=Options)
    seed: int = 0
    conversation: str = ""
    asked: str = ""


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
    """A statement of an answer and the quotes it rests on. `confidence`, 0 to 1, is the evidence's, not the model's.

    `about` is the question it answers where that is not the one asked: a hop, or a question the reader raised itself.
    """

    text: str
    quotes: tuple[Quote, ...]
    confidence: float
    about: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """A span a reader looked at. `how`: read by the model, skimmed by search only, skipped, or cut short."""

    document_id: str
    start: int
    end: int
    how: Literal["read", "skimmed", "skipped", "truncated"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """A span that the reply's attention went to; `score` is the share it got of the head that looked there most.

    It is evidence of what the model read, and no claim that the words say so: that is for quotes.
    """

    document_id: str
    start: int
    end: int
    page: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an answer rests on: characters the model read, of how many, and what was left out and why."""

    read: int
    total: int
    parts: tuple[Read, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recalled:
    """Something known from an earlier question that touches this one, with its source. It never replaces reading.

    `source` says what it is: a claim of a model with a checked quote, the user's own word, or an earlier question whose
    answer is not shown (`id` is then its run). `stale`: its document is gone or no longer holds the quote. `asked_at`
    is ISO 8601, UTC.
    """

    id: str
    text: str
    question: str
    asked_at: str
    source: Literal["model", "user", "question"]
    document_id: str = ""
    title: str = ""
    page: int = 0
    quote: str = ""
    stale: bool = False
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader gives.

    Where `found` is false the document does not answer the question: `text` says so and `claims` is empty;
    `closest` are then the quotes that the model read before it said so, where it was asked. A `partial`
    answer rests on what was read before an error ended the run, or is provisional: the run is not done. `why` is the
    router's reason for its choice of reader. `recalled` is what was known before, `read_as` the question where it was
    not read as it was asked, `conversation` the id of its conversation. `looked` is where the model's attention went,
    for readers that can tell.
    """

    text: str
    claims: tuple[Claim, ...]
    found: bool
    reader: str
    coverage: Coverage
    usage: Usage
    run_id: str
    partial: bool = False
    why: str = ""
    recalled: tuple[Recalled, ...] = ()
    read_as: str = ""
    conversation: str = ""
    closest: tuple[Quote, ...] = ()
    looked: tuple[Looked, ...] = ()

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


@dataclass(frozen=True, slots=True)
class MemoryChanged:
    """The memory after part `part` of `of`: its version (from 1), what was added and dropped, its size in tokens."""

    version: int
    part: int
    of: int
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Part `chunk` of `of` is not read, and why."""

    chunk: int
    of: int
    why: str


@dataclass(frozen=True, slots=True)
class Asking:
    """A question that the reader puts to the text on the way: a hop, or a clarification. `level` counts from 1."""

    question: str
    level: int


@dataclass(frozen=True, slots=True)
class Partial:
    """A provisional answer, from what was read so far."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class ReadAs:
    """A follow-up, and the question it is read as."""

    text: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The router's choice of a reader, and its reason."""

    reader: str
    why: str


ReaderEvent = Reading | QuoteFound | Wording | MemoryChanged | Skipped | Asking | Partial | ReadAs | Chosen
Emit = Callable[[ReaderEvent], None]


def nothing_known(question: str, document_ids: tuple[str, ...]) -> tuple[Recalled, ...]:
    """What `Deps.recall` is where nothing is remembered."""
    return ()


@dataclass(frozen=True, slots=True)
class Warmed:
    """A document that was read: its tokens in the prompt, how many were known, how it was read, seconds, and bytes on
    disk, 0 where it is not kept there."""

    tokens: int
    found: int
    plan: str
    seconds: float
    bytes: int


class KeepsKv(Protocol):
    """Where documents that were read are kept, and what is noted of them."""

    @property
    def keeping(self) -> Keeping: ...

    def opened(self, document_id: str, model: str, kept: KeptFile, found: bool) -> None:
        """Note what is kept of a document; `found` says that it was there already and was of use."""
        ...

    def holds(self, document_id: str, model: str) -> bool:
        """Whether something is kept of a document for a model."""
        ...


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
    versions: Versions
    recall: Callable[[str, tuple[str, ...]], tuple[Recalled, ...]] = nothing_known
    templates: Templates | None = None
    kv: KeepsKv | None = None
    stop: Event = field(default_factory=Event)
    worker: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "longleaf-reader"))


@dataclass(frozen=True, slots=True)
class Work:
    """One run: what is asked, and what it is answered with. A graph is built for it and closes over it."""

    deps: Deps
    ask: Ask
    run_id: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will cost at most: model calls and tokens. `note` says what could make it less."""

    calls: int
    prompt_tokens: int
    generated_tokens: int
    note: str = ""


class Reader(Protocol):
    """Builds a graph for one way of reading.

    The graph's state is `agents.state.ReadState` or extends it; ids, ordinals and spans live in the state, never text
    of documents.
    """

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str:
        """What it does, in one line for a list."""
        ...

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the prompt files it uses; their hashes are stored with a run."""
        ...

    @property
    def whole(self) -> bool:
        """Whether it sets out to read all of the documents: what it did not reach is then named in coverage."""
        ...

    def build(self, work: Work, checkpointer: Any) -> CompiledStateGraph[Any, Any, Any, Any]: ...

    def estimate(self, ask: Ask, deps: Deps) -> Estimate:
        """The most it will cost. Reads texts and counts tokens; makes no model call."""
        ...
