"""One streamed reply of an OpenAI-compatible server, made into events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from longleaf.engine.contract import Done, Event, Request, StopReason, Token, Usage
from longleaf.engine.errors import EngineFailed
from longleaf.engine.grammar import Check
from longleaf.engine.stops import StopScanner


class Reply:
    """Gathers the chunks of one reply.

    `prompt_tokens` and `count` stand in where the server gives no usage; `repeats` says that the reply may
    start by repeating the request's prefix, which is then taken off; `check` tells whether the finished reply
    is what the request's grammar asks for.
    """

    def __init__(
        self,
        request: Request,
        prompt_tokens: int,
        count: Callable[[str], int],
        *,
        repeats: bool,
        check: Check | None = None,
    ) -> None:
        self.begun = False
        self._check = check
        self._request = request
        self._prompt_tokens = prompt_tokens
        self._count = count
        self._prefix = request.prefix if repeats else ""
        self._start = ""
        self._scanner = StopScanner(request.sampling.stop)
        self._text: list[str] = []
        self._received: list[str] = []
        self._usage: Any = None
        self._reason: StopReason = "end"
        self._started = time.perf_counter()

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found here, so that the rest need not be read."""
        return self._scanner.matched is not None

    def accept(self, chunk: Any) -> list[Event]:
        """Take one chunk; returns what may be shown."""
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        if choice.finish_reason is not None:
            self._reason = self._reason_for(choice)
        text = (choice.delta.content if choice.delta is not None else None) or ""
        self._received.append(text)
        return self._show(self._scanner.push(self._without_prefix(text)))

    def finish(self) -> list[Event]:
        """The held back rest and `Done`.

        Raises `EngineFailed` where the reply is not what the request's grammar asks for.
        """
        start, self._start, self._prefix = self._start, "", ""
        events = self._show(self._scanner.push(start) + self._scanner.finish())
        reason: StopReason = "stop" if self.stopped else self._reason
        text = "".join(self._text)
        if self._check is not None:
            self._hold_to(self._check, text, reason)
        return [*events, Done(self._request.id, text, self._spent(), reason)]

    def _hold_to(self, check: Check, text: str, reason: StopReason) -> None:
        # Most servers call a reply that a stop string cut an ended one.
        cut = reason != "end" or bool(self._request.sampling.stop)
        if check.whole(text) or (cut and check.beginning(text)):
            return
        raise EngineFailed(
            f"request {self._request.id}: the server sent a reply outside the grammar it was given. It probably "
            "leaves such arguments out; use one that keeps to them (vLLM 0.11 or later), or a local model"
        )

    def _show(self, text: str) -> list[Event]:
        if not text:
            return []
        self.begun = True
        self._text.append(text)
        return [Token(self._request.id, text)]

    def _without_prefix(self, text: str) -> str:
        if not self._prefix:
            return text
        self._start += text
        if self._prefix.startswith(self._start):
            return ""  # it may still turn out to be the prefix
        start, prefix = self._start, self._prefix
        self._start = self._prefix = ""
        return start.removeprefix(prefix)

    def _reason_for(self, choice: Any) -> StopReason:
        if choice.finish_reason == "length":
            return "length"
        # vLLM says which stop string it was; others do not tell a stop string from the end.
        said = (getattr(choice, "model_extra", None) or {}).get("stop_reason")
        return "stop" if said in self._request.sampling.stop else "end"

    def _spent(self) -> Usage:
        seconds = time.perf_counter() - self._started
        if self._usage is None:
            received = self._count("".join(self._received))
            return Usage(1, self._prompt_tokens, received, 0, seconds)
        details = getattr(self._usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or 0
        return Usage(1, self._usage.prompt_tokens, self._usage.completion_tokens, cached, seconds)
