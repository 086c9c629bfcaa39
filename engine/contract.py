"""What every model backend offers, and nothing more.

A backend takes a batch of `Request`s and yields `Event`s as they happen. Requests are independent: one that
fails yields its own `Failed` and the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from longleaf.engine.errors import LongleafError

Role = Literal["system", "user", "assistant"]
StopReason = Literal["end", "stop", "length", "loop"]
GrammarKind = Literal["json", "choice", "regex", "span"]
Head = tuple[int, int]
"""An attention head: layer and number within it, both from 0."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a reader may know of a model.

    `window` counts tokens, prompt and reply together. `tokenizer` is a fingerprint: token counts of two models may
    be mixed only where it is equal. `weights` is one too, of the model's files and its adapter: cached KV of two
    models may be mixed only where both are equal. It is empty where the weights are not here.
    """

    name: str
    backend: Literal["torch", "openai", "vllm", "scripted"]
    window: int
    tokenizer: str
    dtype: str
    capabilities: frozenset[str] = frozenset()
    weights: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a reply must be, whatever the model would rather say. Made by one of the methods below.

    It holds for the reply after `Request.prefix`. A reply that is whole ends with stop reason "end"; one cut by
    `max_tokens` or a stop string is only the beginning of what the grammar asks for. An engine whose card has
    the capability "grammar" keeps to it or gives `Failed`, never an unconstrained reply.
    """

    kind: GrammarKind
    source: str
    otherwise: tuple[str, ...] = ()
    margin: float = 0.0
    among: int = 1

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """JSON that meets a schema (draft 2020-12), with an object's keys in the order the schema gives them.

        A string, array or open object without a bound of its own runs on to `max_tokens` with a small model, and
        the reply is then no JSON: set `maxLength`, `maxItems` and `additionalProperties`, or let
        `longleaf.engine.grammar.bounded` do so.
        """
        return cls("json", json.dumps(schema, ensure_ascii=False, separators=(",", ":")))

    @classmethod
    def choice(cls, options: Sequence[str]) -> Grammar:
        """Exactly one of the options."""
        return cls("choice", json.dumps(list(options), ensure_ascii=False))

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """Text that matches a regular expression as a whole; Rust's syntax, without look-around."""
        return cls("regex", pattern)

    @classmethod
    def span(cls, text: str, otherwise: Sequence[str] = (), margin: float = 0.0, among: int = 1) -> Grammar:
        """A piece of `text`, character for character, from the start of one word to the end of another.

        Only `max_tokens` bounds its length; a span cut there is still a piece of the text. `otherwise` are replies
        that are allowed beside a span, such as a sentence that says there is none. The first of them is begun only
        where it is likelier by `margin`, in units of the natural logarithm, than any other beginning, or where that is
        negative, less likely by no more than so much. At temperature 0, where the first of `otherwise` is not begun,
        the engine may weigh the `among` likeliest spans against each other and give the one with the greatest expected
        F1 of words; 1 takes the likeliest word by word. An engine that leaves the drawing to a server heeds neither
        `margin` nor `among`, and a document that is kept open does not heed `among`.
        """
        return cls("span", text, tuple(otherwise), margin, among)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn.

    Temperature 0 is greedy; `max_tokens` bounds the reply; `seed` makes draws repeatable; `grammar` says what
    the reply must be.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt. `prefix` is text the reply is made to start with; it is not repeated in the events."""

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Cost of one or more calls; adds up with `+`. `cached_tokens` are prompt tokens whose KV was reused."""

    calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.cached_tokens + other.cached_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a reply, as soon as it is certain not to be part of a stop string."""

    request_id: str
    text: str


@dataclass(frozen=True, slots=True)
class TextRead:
    """Characters `start` to `end` of an open document's text that a reply read.

    `score` is the share of its attention that the head which looked there most gave them, as the mean over the reply.
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Done:
    """A finished reply: the concatenation of its tokens, without the stop string.

    Stop reason "loop": it said the same over and over, and was ended. `reads` are what it looked at in a document that
    is kept open, the most important first. `lead` is by how much the first of `Grammar.otherwise` was likelier than any
    other beginning, in units of the natural logarithm: what `Grammar.margin` is held against. None where the engine
    does not weigh it.
    """

    request_id: str
    text: str
    usage: Usage
    stop_reason: StopReason
    reads: tuple[TextRead, ...] = ()
    lead: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that gave no reply, with the reason; `transient` says whether to try it again."""

    request_id: str
    error: LongleafError
    transient: bool = False


Event = Token | Done | Failed


@runtime_checkable
class Engine(Protocol):
    """A model behind a uniform call."""

    @property
    def card(self) -> ModelCard: ...

    def count(self, text: str) -> int:
        """Tokens of `text` on its own, without template or special tokens."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Answer a batch, streaming.

        Exactly one `Done` or `Failed` comes per request; closing the iterator stops.
        """
        ...

    def close(self) -> None:
        """Free memory and connections. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Scores:
    """How much a question looked at each unit of a context.

    `units` has one score for each unit, to be compared within one call only. `heads` are the attention heads
    that were asked, and `tokens` counts the context's.
    """

    units: tuple[float, ...]
    heads: tuple[Head, ...]
    tokens: int
    usage: Usage


@runtime_checkable
class ScoresContext(Protocol):
    """An engine that can rank what a question needs by the model's own attention.

    It can do so where its card has the capability "scores_context".
    """

    def score_context(self, question: str, context: Sequence[str], *, stop: Callable[[], bool] | None = None) -> Scores:
        """One score for each unit of `context`, which are sentences or so, in reading order.

        The score of a unit is the attention that its tokens together get from a token of the question, as the
        mean over the question's tokens and the chosen heads. Several questions about one context, asked one
        after the other, cost little more than one. `stop` is asked between chunks of the context.

        Raises `WindowExceeded` where question and units do not fit the window together, `NotCalibrated` where
        the heads to ask are not known, `Stopped` where `stop` said so, and `EngineFailed`.
        """
        ...


@dataclass(frozen=True, slots=True)
class PageRead:
    """Tokens `start` to `end` of a document that an answer read.

    `score` is the share of its attention that the head which looked there most was expected to give them, `often` the
    share of heads, layers and steps that read them; both are means over the answer.
    """

    start: int
    end: int
    score: float
    often: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said to a question about an open document: token ids without the one that ended it, and the parts of
    the document that were read for it, the most important first; none where all of it was."""

    tokens: tuple[int, ...]
    reads: tuple[PageRead, ...]
    stop_reason: StopReason
    usage: Usage


@runtime_checkable
class DocumentKV(Protocol):
    """A document whose keys and values are kept, so that every question after the first is the question alone."""

    @property
    def length(self) -> int:
        """Tokens of the document."""
        ...

    def answer(self, question: Sequence[int], *, max_tokens: int = 128, stop_tokens: Sequence[int] = ()) -> Reply:
        """Reply to a question that follows the document, greedily. The document stays as it is.

        Raises `PagesFull` where the question and its reply find no room, `Stopped` and `EngineFailed`.
        """
        ...

    def close(self) -> None:
        """Let go of the document. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where and how an engine keeps documents as files: at most `limit` bytes in `folder`, None for no limit.

    `stored` is the numbers' format: "exact", "int8", "int4", or "auto": exact where a document fits the model's window,
    int8 where it is longer.
    """

    folder: Path
    limit: int | None = None
    stored: Literal["auto", "exact", "int8", "int4"] = "auto"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A document's keys and values as files. `name` and `fingerprint` say of what and by what, `path` is the file that
    lists the others, relative to the folder, and `bytes` counts what other documents share in full."""

    name: str
    fingerprint: str
    tokens: int
    bytes: int
    path: str


class OpenDocument(Protocol):
    """A document that has been read and is kept open. `tokens` is its length, frame included, and `found` how many of
    them were known and not computed; `seconds` is what opening took."""

    @property
    def tokens(self) -> int: ...

    @property
    def found(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def plan(self) -> str:
        """How it was read and is answered from."""
        ...

    @property
    def kept(self) -> KeptFile | None:
        """Its files, where it has any."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """As `Engine.generate`, one after the other, for requests that begin with the messages that were opened.

        Only what follows them is computed. `Done.reads` are characters of the text of the last message that was opened.
        """
        ...


@runtime_checkable
class ReadsDocuments(Protocol):
    """An engine that keeps documents open. It can do so where its card has the capability "reads_documents"."""

    def open_document(
        self,
        messages: Sequence[Message],
        *,
        plan: str = "dense",
        budget: int | None = None,
        room: int = 256,
        keeping: Keeping | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> OpenDocument:
        """Read the beginning of a prompt, whose last message is cut where a question will follow, or find it read.

        `plan` names what replies read of it, `budget` how many tokens of it a step reads where the plan chooses;
        `longleaf.engine.attention.plans` lists them. A document that leaves less than `room` tokens of the window is
        read by the plan "infllm" whatever was asked for. `keeping` says where it is kept, and may be found.

        Raises `ValueError` where there is no such plan, `Stopped` where `stop` said so between chunks, `WindowExceeded`
        where the model can read no document that long, `PagesFull` where it finds no room, and `EngineFailed`.
        """
        ...


def complete(engine: Engine, request: Request) -> Done:
    """Run one request to its end.

    Raises the request's own error where it failed.
    """
    for event in engine.generate([request]):
        if isinstance(event, Done):
            return event
        if isinstance(event, Failed):
            raise event.error
    raise AssertionError(f"engine {engine.card.name} ended without a reply to {request.id}")
