"""A model that says what it is told to: for tests, demonstrations and trying a pipeline without a model."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from longleaf.engine.contract import (
    Done,
    Event,
    Failed,
    Keeping,
    KeptFile,
    Message,
    ModelCard,
    Request,
    Scores,
    StopReason,
    TextRead,
    Token,
    Usage,
)
from longleaf.engine.errors import EngineFailed, LongleafError, NotCalibrated, Stopped, WindowExceeded
from longleaf.engine.stops import StopScanner

Script = Sequence[str] | Callable[[Request], str]


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures to inject: `rate` between 0 and 1 of requests, drawn from `seed`."""

    rate: float
    seed: int = 0
    transient: bool = True


class ScriptedEngine:
    """Replies from a list or a function, streamed word by word; a word with the space before it is one token.

    `script` is a list of replies, used in order and, with `cycle`, over again, or a function of the request.
    With `attention` it can score a context and keep documents open, by words in common. What was asked is kept in
    `requests`. `delay` is seconds per token. Temperature, seed and grammar have no effect: the script says what a model
    held to the grammar would say, or what a careless server sends instead. With `lead` it is a model that says where a
    text does not answer: the function gives `Done.lead` of a request.
    """

    def __init__(
        self,
        script: Script,
        *,
        cycle: bool = True,
        name: str = "scripted",
        window: int = 8192,
        delay: float = 0.0,
        failures: Failures | None = None,
        attention: bool = False,
        lead: Callable[[Request], float] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self._script = script
        self._cycle = cycle
        self._delay = delay
        self._failures = failures
        self._lead = lead
        self._opened: set[tuple[Message, ...]] = set()
        self._random = random.Random(failures.seed if failures else 0)
        self._used = 0
        self._closed = False
        self._lock = threading.Lock()
        self._card = ModelCard(
            name=name,
            backend="scripted",
            window=window,
            tokenizer="words",
            dtype="none",
            capabilities=frozenset(
                {"prefix", "seed", "grammar"}
                | ({"scores_context", "reads_documents"} if attention else set())
                | ({"abstains"} if lead else set())
            ),
        )

    @classmethod
    def echo(cls, *, window: int = 8192) -> ScriptedEngine:
        """Replies with the prompt as JSON: `{"messages": [{"role", "content"}], "prefix"}`."""
        return cls(echo_reply, window=window)

    @classmethod
    def from_spec(cls, spec: str, *, window: int = 8192) -> ScriptedEngine:
        """`scripted:echo`, or `scripted:TEXT`, which always replies TEXT.

        Raises `EngineFailed` on anything else.
        """
        kind, colon, text = spec.partition(":")
        if kind != "scripted" or not colon or not text:
            raise EngineFailed(f"{spec!r} is no scripted model; write scripted:echo or scripted:TEXT")
        return cls.echo(window=window) if text == "echo" else cls([text], window=window)

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self._card

    def count(self, text: str) -> int:
        """Words of `text`."""
        return len(_words(text))

    def close(self) -> None:
        """A later `generate` fails every request."""
        self._closed = True

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Answer a batch, the replies' words taking turns, as those of a real batch do."""
        replies: list[Iterator[Event]] = []
        for request in requests:
            try:
                replies.append(self.reply(request))
            except LongleafError as error:
                yield Failed(request.id, error, transient=getattr(error, "transient", False))
        while replies:
            for reply in list(replies):
                event = next(reply)
                if isinstance(event, Done):
                    replies.remove(reply)
                yield event

    def score_context(self, question: str, context: Sequence[str], *, stop: Callable[[], bool] | None = None) -> Scores:
        """Attention to the words that a unit shares with the question, rare ones more. As `ScoresContext`."""
        if "scores_context" not in self._card.capabilities:
            raise NotCalibrated(f"{self._card.name} was made without attention")
        units = [Counter(word.casefold().strip() for word in _words(unit)) for unit in context]
        tokens = sum(unit.total() for unit in units)
        if tokens + self.count(question) > self._card.window:
            raise WindowExceeded(f"{len(units)} units and the question do not fit {self._card.name}")
        asked = {word.casefold().strip() for word in _words(question)}
        holders = Counter(word for unit in units for word in unit)
        scores = []
        for unit in units:
            if stop is not None and stop():
                raise Stopped("scoring was stopped")
            time.sleep(self._delay)
            scores.append(sum(1 / holders[word] for word in asked if word in unit))
        return Scores(tuple(scores), ((0, 0),), tokens, Usage(1, tokens, 0, 0, self._delay * len(units)))

    def open_document(
        self,
        messages: Sequence[Message],
        *,
        plan: str = "dense",
        budget: int | None = None,
        room: int = 256,
        keeping: Keeping | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> ScriptedDocument:
        """Read the beginning of a prompt, a moment for each of its words that was not read before; nothing is kept in
        files. As `ReadsDocuments`."""
        if "reads_documents" not in self._card.capabilities:
            raise EngineFailed(f"{self._card.name} was made without attention, and keeps no document open")
        began = time.perf_counter()
        text = messages[-1].content
        words = len(_words(text)) + sum(self.count(message.content) for message in messages[:-1])
        found = words if tuple(messages) in self._opened else 0
        for _ in range(0, words - found, 64):
            if stop is not None and stop():
                raise Stopped("reading was stopped")
            time.sleep(self._delay)
        self._opened.add(tuple(messages))
        longer = words + room > self._card.window
        return ScriptedDocument(self, text, words, found, time.perf_counter() - began, "infllm" if longer else plan)

    def reply(self, request: Request, check: bool = True) -> Iterator[Event]:
        """One request's events; without `check`, of any length. Raises what the request fails by."""
        return self._stream(request, self._reply_to(request, check))

    def _reply_to(self, request: Request, check: bool = True) -> str:
        with self._lock:
            if self._closed:
                raise EngineFailed(f"the engine {self._card.name} is closed; open it again")
            self.requests.append(request)
            if check:
                self._check_window(request)
            if self._failures and self._random.random() < self._failures.rate:
                raise EngineFailed(
                    f"request {request.id}: a failure that the script asked for",
                    transient=self._failures.transient,
                )
            if not callable(self._script):
                return self._next_reply()
        return self._script(request)

    def _next_reply(self) -> str:
        assert not callable(self._script)
        if not self._script or (self._used >= len(self._script) and not self._cycle):
            raise EngineFailed(f"the script ended after {len(self._script)} replies; give it more, or cycle=True")
        reply = self._script[self._used % len(self._script)]
        self._used += 1
        return reply

    def _check_window(self, request: Request) -> None:
        tokens = self._prompt_tokens(request)
        if tokens + 1 > self._card.window:
            raise WindowExceeded(
                f"the prompt of request {request.id} has {tokens} tokens and {self._card.name} holds "
                f"{self._card.window}, prompt and reply together; shorten it or give a larger window"
            )

    def _prompt_tokens(self, request: Request) -> int:
        return sum(self.count(message.content) for message in request.messages) + self.count(request.prefix)

    def _stream(self, request: Request, reply: str) -> Iterator[Event]:
        start = time.perf_counter()
        prompt_tokens = self._prompt_tokens(request)
        limit = request.sampling.max_tokens
        if prompt_tokens < self._card.window:
            limit = min(limit, self._card.window - prompt_tokens)
        scanner = StopScanner(request.sampling.stop)
        words = _words(reply)
        said: list[str] = []
        used = 0
        for word in words[:limit]:
            time.sleep(self._delay)
            used += 1
            if text := scanner.push(word):
                said.append(text)
                yield Token(request.id, text)
            if scanner.matched is not None:
                break
        if rest := scanner.finish():
            said.append(rest)
            yield Token(request.id, rest)
        reason: StopReason = "length" if len(words) > limit else "end"
        usage = Usage(1, prompt_tokens, used, 0, time.perf_counter() - start)
        ended: StopReason = "stop" if scanner.matched is not None else reason
        yield Done(request.id, "".join(said), usage, ended, lead=self._lead(request) if self._lead else None)


@dataclass(frozen=True, slots=True)
class ScriptedDocument:
    """A document that a scripted model keeps open. A reply looks at the stretches of its text, of 30 words each, that
    have most words in common with the question."""

    engine: ScriptedEngine
    text: str
    tokens: int
    found: int
    seconds: float
    plan: str
    kept: KeptFile | None = None

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """As `OpenDocument.generate`."""
        for request in requests:
            try:
                for event in self.engine.reply(request, check=False):
                    if isinstance(event, Done):
                        usage = replace(event.usage, cached_tokens=self.tokens)
                        yield replace(event, usage=usage, reads=self._reads(request))
                    else:
                        yield event
            except LongleafError as error:
                yield Failed(request.id, error, transient=getattr(error, "transient", False))

    def _reads(self, request: Request) -> tuple[TextRead, ...]:
        asked = set(request.messages[-1].content[len(self.text) :].casefold().split())
        words = list(re.finditer(r"\S+", self.text))
        reads = []
        for first in range(0, len(words), 30):
            part = words[first : first + 30]
            common = len({word.group().casefold() for word in part} & asked)
            reads.append(TextRead(part[0].start(), part[-1].end(), common / max(1, len(asked))))
        return tuple(sorted(reads, key=lambda read: -read.score))


def echo_reply(request: Request) -> str:
    """The request's messages and prefix as JSON."""
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return json.dumps({"messages": messages, "prefix": request.prefix}, ensure_ascii=False)


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)
