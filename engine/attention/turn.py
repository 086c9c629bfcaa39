"""`Turn`: one reply to a question about a document, token by token."""

from __future__ import annotations

import torch

from longleaf.engine.attention.contract import Policy
from longleaf.engine.attention.reads import Recorder
from longleaf.engine.attention.runner import Runner, States
from longleaf.engine.contract import PageRead


class Turn:
    """A reply as it grows. It owns `sequence`, which holds the document and all of the question but its last token.

    That token is a step as those of the reply are: what it reads is chosen, and noted.
    """

    def __init__(
        self,
        runner: Runner,
        sequence: int,
        last: int,
        policy: Policy,
        *,
        states: States,
        recorder: Recorder,
        tokens: int,
        shift: int = 0,
    ) -> None:
        self._runner = runner
        self._sequence: int | None = sequence
        self._last = last
        self._policy = policy
        self._states = states
        self._recorder = recorder
        self._tokens = tokens
        self._shift = shift

    def step(self) -> torch.Tensor:
        """Logits `[vocabulary]` of what comes next. Raises `PagesFull`, and `SegmentDamaged`."""
        if self._sequence is None:
            raise ValueError("the turn has ended; begin another one")
        new = torch.tensor([self._last], device=self._runner.store.device)
        logits = self._runner.step(
            [self._sequence], new, self._policy, states=self._states, recorder=self._recorder, shift=self._shift
        )
        return logits[0]

    def accept(self, token: int) -> None:
        """Say what came next, after a `step`."""
        self._last = token

    def reads(self) -> tuple[PageRead, ...]:
        """The pages of the document that were read, the most important first."""
        return self._recorder.reads(0, self._runner.store.shape.page, self._tokens)

    def close(self) -> None:
        """Let go of the reply's own keys and values. Safe to call twice."""
        if self._sequence is not None:
            self._runner.store.drop(self._sequence)
        self._sequence = None
