"""`Runner`: a transformers model that reads and writes the pages of a store, with a policy for what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.bank import SummaryBank
from longleaf.engine.attention.cache import paged_cache
from longleaf.engine.attention.contract import Attend, Policy, Positions, ReadsPages, Summary
from longleaf.engine.attention.executor import executor
from longleaf.engine.attention.interface import Pass, pages_of, through_pages
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.reads import Recorder
from longleaf.engine.attention.rotation import frequencies_of
from longleaf.engine.errors import Stopped
from longleaf.engine.growing_cache import cache_name
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore

States = dict[int, dict[str, Any]]
"""What a policy remembers between the steps of one reply, by layer."""


def shape_of(model: Any, page: int = 64) -> PageShape:
    """The pages that a model's keys and values take."""
    config = model.config.get_text_config(decoder=True)
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    return PageShape(int(config.num_hidden_layers), kv_heads, size, page, model.dtype)


class Runner:
    """Runs `model` over sequences of `store`, whose shape must be the model's.

    `summary` describes pages as they fill; None where no policy will choose by it. With `positions`, keys are stored
    without theirs and seen where these say, so that a sequence may be longer than the model's window; every sequence
    of the store is then stored so. `attend` executes what is chosen; None is what `executor` finds for the device.
    `chunk` is how many tokens of a prompt are computed at once. Whoever calls holds the model's lock: its attention is
    exchanged for the time of a pass.
    """

    def __init__(
        self,
        model: Any,
        store: PageStore,
        *,
        summary: Summary | None = None,
        positions: Positions | None = None,
        attend: Attend | None = None,
        chunk: int = 512,
    ) -> None:
        self.model = model
        self.store = store
        self.positions = positions
        self.paged = pages_of(model)
        if positions is not None and not self.paged:
            raise ValueError(f"{type(model).__name__} keeps its own attention, so its positions cannot be given later")
        self.bank = None if summary is None or not self.paged else SummaryBank(store, summary)
        self._attend = attend or (executor(model, store, positions) if self.paged else TorchAttend())
        self._chunk = chunk
        self._frequencies = frequencies_of(model) if positions is not None else {}

    @torch.inference_mode()
    def prefill(
        self,
        sequence: int,
        tokens: Sequence[int],
        policy: Policy | None = None,
        *,
        total: int | None = None,
        keep: int = 1,
        states: States | None = None,
        stop: Callable[[], bool] | None = None,
        shift: int = 0,
    ) -> torch.Tensor:
        """Append a prompt to a sequence, chunk by chunk; returns the logits of its last `keep` tokens.

        Chunks end on a grid from the sequence's first token, so that where a policy decides block by block, reading in
        one call or in several gives the same. `total` is the length the sequence will have, where more calls follow,
        and `shift` how much further on its tokens stand than their number says, because some were evicted.
        Raises `PagesFull`, and `Stopped` where `stop` said so between chunks; the chunks before stay.
        """
        if not tokens:
            raise ValueError("there are no tokens to read")
        chosen: Policy = policy or Dense()
        grain = max(1, -(-self._chunk // grid(chosen))) * grid(chosen)
        end = self.store.length(sequence) + len(tokens)
        logits: torch.Tensor | None = None
        done = 0
        while done < len(tokens):
            if stop is not None and stop():
                raise Stopped(f"reading was stopped after {done} of {len(tokens)} tokens")
            held = self.store.length(sequence)
            count = min(len(tokens) - done, grain - held % grain)
            if len(tokens) - done - count < keep:  # what is asked for must be in the last chunk
                count = len(tokens) - done
            part = torch.tensor([list(tokens[done : done + count])], device=self.model.device)
            logits = self._run(part, [sequence], chosen, keep=keep, total=total or end, states=states, shift=shift)
            done += count
        assert logits is not None
        return logits[0]

    @torch.inference_mode()
    def step(
        self,
        sequences: Sequence[int],
        tokens: torch.Tensor,
        policy: Policy | None = None,
        *,
        states: States | None = None,
        recorder: Recorder | None = None,
        shift: int = 0,
    ) -> torch.Tensor:
        """Append one token a sequence, `tokens` int64 `[rows]`; returns its logits, `[rows, vocabulary]`.

        Raises `PagesFull`; all sequences then are as they were.
        """
        policy = policy or Dense()
        logits = self._run(tokens[:, None], sequences, policy, keep=1, states=states, recorder=recorder, shift=shift)
        return logits[:, -1]

    def _run(
        self,
        tokens: torch.Tensor,
        sequences: Sequence[int],
        policy: Policy,
        *,
        keep: int,
        total: int | None = None,
        states: States | None = None,
        recorder: Recorder | None = None,
        shift: int = 0,
    ) -> torch.Tensor:
        before = tuple(self.store.length(sequence) for sequence in sequences)
        if self.positions is None:
            start = torch.tensor(before, device=tokens.device)[:, None] + shift
            places = start + torch.arange(tokens.shape[1], device=tokens.device)
        else:
            places = torch.zeros_like(tokens)
        extra: dict[str, Any] = {}
        if self.paged:
            extra["paged"] = Pass(
                self.store,
                self.bank,
                self._attend,
                policy,
                tuple(sequences),
                before,
                self.positions,
                self._frequencies,
                {} if states is None else states,
                recorder,
                total,
            )
        try:
            with through_pages(self.model) if self.paged else nullcontext():
                out = self.model(
                    input_ids=tokens,
                    position_ids=places,
                    **{cache_name(self.model): paged_cache(self.store, sequences, whole=not self.paged)},
                    use_cache=True,
                    logits_to_keep=keep,
                    **extra,
                )
        except Exception:
            for sequence, length in zip(sequences, before, strict=True):
                self.store.truncate(sequence, length)
            raise
        logits: torch.Tensor = out.logits
        return logits


def grid(policy: Policy) -> int:
    """Tokens within which a policy's choices for a prompt hang together: chunks should end at their multiples."""
    if isinstance(policy, ReadsPages):
        return policy.block
    return int(getattr(policy, "grain", 1))


def summary_of(policy: Any) -> Summary | None:
    """The summary that a policy chooses by, its own or that of a policy within it; None where it needs none."""
    found: Summary | None = getattr(policy, "summary", None)
    inner = getattr(policy, "policy", None)
    return summary_of(inner) if found is None and inner is not None else found
