"""One request while its reply is being generated."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from longleaf.engine.contract import Done, Event, Failed, Request, StopReason, Token, Usage
from longleaf.engine.detokenizer import Detokenizer
from longleaf.engine.errors import LongleafError
from longleaf.engine.grammar import Matcher
from longleaf.engine.prompt import Prompt
from longleaf.engine.repetition import runs_in_circles
from longleaf.engine.sampling import Sampler
from longleaf.engine.spans import SpanTree
from longleaf.engine.stops import StopScanner


class Row:
    """Takes the tokens drawn for a request and makes events of them.

    `room` is how many tokens the window leaves for the reply; `ends` are the token ids that end a turn;
    `matcher` holds the reply to the request's grammar, where it has one.
    """

    def __init__(
        self,
        request: Request,
        prompt: Prompt,
        *,
        room: int,
        tokenizer: Any,
        ends: Collection[int],
        matcher: Matcher | None = None,
    ) -> None:
        self.request = request
        self.sampler = Sampler(request.sampling)
        self.finished = False
        self.seconds = 0.0
        self.cached_tokens = 0
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._prompt = prompt.ids
        self._reply: list[int] = []
        self._limit = min(request.sampling.max_tokens, room)
        self._ends = frozenset(ends)
        self._turn_stops = prompt.stops
        self._text: list[str] = []
        self._detokenizer = Detokenizer(tokenizer, prompt.ids)
        self._stops = (*request.sampling.stop, *prompt.stops)
        self._scanner = StopScanner(self._stops)

    @property
    def ids(self) -> Sequence[int]:
        """Prompt and reply so far; the last one has no keys and values yet."""
        return [*self._prompt, *self._reply]

    @property
    def last(self) -> int:
        """The token to compute next."""
        return self._reply[-1] if self._reply else self._prompt[-1]

    @property
    def length(self) -> int:
        """Tokens of prompt and reply so far."""
        return len(self._prompt) + len(self._reply)

    @property
    def most(self) -> int:
        """Tokens of prompt and reply at the end, at most."""
        return len(self._prompt) + max(self._limit, 0)

    def start(self) -> list[Event]:
        """Events before the first token: a reply of no tokens is done at once."""
        return self._end("length") if self._limit <= 0 else []

    def constrain(self, logits: torch.Tensor) -> None:
        """Rule out what the grammar does not allow next, in logits `[vocabulary]`, in place."""
        if self._matcher is not None:
            self._matcher.mask(logits)

    def tree(self, first: int, cache: Any) -> SpanTree | None:
        """Where to look for the reply among many, beginning from a cache of the prompt.

        None where it is drawn token by token: the grammar or the temperature wants it so, it has begun, or `first`,
        the likeliest first token, is that of the reply which the grammar lets begin by a margin alone.
        """
        grammar, matcher = self.request.sampling.grammar, self._matcher
        if grammar is None or matcher is None or grammar.among <= 1 or not self.sampler.greedy or self._reply:
            return None
        if first == matcher.avoided:
            return None
        return SpanTree(
            matcher.copy(),
            cache,
            width=grammar.among,
            limit=self._limit,
            ends=self._ends,
            text_of=self._text_of,
            ruled_out=matcher.avoided,
        )

    def fail(self, error: LongleafError) -> list[Event]:
        """End without a reply."""
        self.finished = True
        return [Failed(self.request.id, error)]

    def accept(self, token: int) -> list[Event]:
        """Take the next token id; returns what can be shown, and `Done` or `Failed` where this ends the reply."""
        self._reply.append(token)
        try:
            whole = self._matcher is not None and self._matcher.accept(token)
        except LongleafError as error:
            return self.fail(error)
        if token in self._ends:
            return self._end("end")
        shown = self._scanner.push(self._detokenizer.push(token))
        if self._scanner.matched is not None or whole or len(self._reply) >= self._limit:
            return [*self._show(shown), *self._end("end" if whole else "length")]
        if self._matcher is None and runs_in_circles(self._reply):
            return [*self._show(shown), *self._end("loop")]
        return self._show(shown)

    def _text_of(self, tokens: Sequence[int]) -> str:
        text = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        scanner = StopScanner(self._stops)
        return (scanner.push(text) + scanner.finish()).strip()

    def _show(self, text: str) -> list[Event]:
        if not text:
            return []
        self._text.append(text)
        return [Token(self.request.id, text)]

    def _end(self, reason: StopReason) -> list[Event]:
        self.finished = True
        rest = self._scanner.push(self._detokenizer.finish()) + self._scanner.finish()
        events = self._show(rest)
        usage = Usage(1, len(self._prompt), len(self._reply), self.cached_tokens, self.seconds)
        lead = self._matcher.lead if self._matcher is not None else None
        return [*events, Done(self.request.id, "".join(self._text), usage, self._stop_reason(reason), lead=lead)]

    def _stop_reason(self, reason: StopReason) -> StopReason:
        matched = self._scanner.matched
        if matched is None:
            return reason
        return "stop" if matched in self.request.sampling.stop else "end"
