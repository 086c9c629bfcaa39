"""What every model backend offers, and nothing more.

A backend takes a batch of `Request`s and yields `Event`s as they happen. Requests are independent: one that
fails yields its own `Failed` and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from longleaf.engine.errors import LongleafError

Role = Literal["system", "user", "assistant"]
StopReason = Literal["end", "stop", "length"]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a reader may know of a model.

    `window` counts tokens, prompt and reply together. `tokenizer` is a fingerprint: token counts and cached
    KV of two models may be mixed only where it is equal.
    """

    name: str
    backend: Literal["torch", "openai", "vllm", "scripted"]
    window: int
    tokenizer: str
    dtype: str
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn.

    Temperature 0 is greedy; `max_tokens` bounds the reply; `seed` makes draws repeatable.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


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
class Done:
    """A finished reply: the concatenation of its tokens, without the stop string."""

    request_id: str
    text: str
    usage: Usage
    stop_reason: StopReason


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
