"""Examples one behind the other in a row of fixed length, each blind to the others: one shape to compile."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.nn import functional

from longleaf.engine.attention_scores import lent

_IMPLEMENTATION = "training_packed"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of an example, of which the first `asked` are not learned; `about` is its question, if any."""

    task: str
    about: str
    ids: tuple[int, ...]
    asked: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A row of examples.

    `ids` and `positions` [1, tokens]; `starts` [examples + 1 or more] where each begins, and the end again and again;
    `learned` [n] places whose next token is learned, `wanted` [n] those tokens, `weights` [n] what each counts for:
    an example of n learned tokens counts sqrt(n) times as much as one of a single token, so that neither long notes
    nor short answers drown the others.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    starts: torch.Tensor
    learned: torch.Tensor
    wanted: torch.Tensor
    weights: torch.Tensor

    def to(self, device: str) -> Packed:
        """The same on a device; nothing waits for it."""
        parts = [getattr(self, field.name) for field in fields(self)]
        if device.startswith("cuda"):
            parts = [part.pin_memory() for part in parts]
        return Packed(*(part.to(device, non_blocking=True) for part in parts))


def packed(rows: Sequence[Encoded], tokens: int, longest: int) -> Packed:
    """The row of `tokens` places that holds `rows`, at most `most_of(tokens)` examples of at most `longest` tokens.

    What is left over is filled with zeros, as examples of which nothing is learned.
    """
    ids, positions, starts = [0] * tokens, [0] * tokens, [0]
    learned: list[int] = []
    wanted: list[int] = []
    weights: list[float] = []
    for row in rows:
        begin, count = starts[-1], len(row.ids)
        ids[begin : begin + count] = row.ids
        positions[begin : begin + count] = range(count)
        learned += range(begin + row.asked - 1, begin + count - 1)
        wanted += row.ids[row.asked :]
        weights += [(count - row.asked) ** -0.5] * (count - row.asked)
        starts.append(begin + count)
    while starts[-1] < tokens:
        begin = starts[-1]
        starts.append(min(tokens, begin + longest))
        positions[begin : starts[-1]] = range(starts[-1] - begin)
    starts += [tokens] * (most_of(tokens) + tokens // longest + 3 - len(starts))
    return Packed(
        torch.tensor([ids]),
        torch.tensor([positions]),
        torch.tensor(starts, dtype=torch.int32),
        torch.tensor(learned),
        torch.tensor(wanted),
        torch.tensor(weights),
    )


def most_of(tokens: int) -> int:
    """How many examples a row of `tokens` may hold."""
    return max(1, tokens // 96)


def batches(rows: Sequence[Encoded], tokens: int, seed: int) -> Iterator[tuple[float, list[Encoded]]]:
    """Groups of examples that fit a row of `tokens`, again and again, each with the epochs gone by before it."""
    draw = random.Random(seed)
    epoch = 0
    while True:
        order = list(rows)
        draw.shuffle(order)
        batch: list[Encoded] = []
        room, done = tokens, 0
        for place, row in enumerate(order):
            if len(row.ids) > room or len(batch) == most_of(tokens):
                yield epoch + done / len(order), batch
                batch, room, done = [], tokens, place
            batch.append(row)
            room -= len(row.ids)
        yield epoch + done / len(order), batch
        epoch += 1


def losses(model: Any, row: Packed) -> torch.Tensor:
    """The loss of each learned token [n]. `model` is the transformers model, inside `packs(model)`."""
    with torch.autocast(row.ids.device.type, torch.bfloat16, enabled=row.ids.is_cuda):
        hidden = model.model(
            input_ids=row.ids, position_ids=row.positions, starts=row.starts, use_cache=False
        ).last_hidden_state[0]
        # Only there are logits worked out: the vocabulary is most of a small model.
        logits = model.lm_head(hidden[row.learned]).float()
    return functional.cross_entropy(logits, row.wanted, reduction="none")


@contextmanager
def packs(model: Any, longest: int) -> Iterator[None]:
    """While inside, attention keeps to the examples of a row, of which none has more than `longest` tokens."""
    from transformers import AttentionInterface

    AttentionInterface.register(_IMPLEMENTATION, _attention(longest))
    with lent(model.config.get_text_config(decoder=True), _attn_implementation=_IMPLEMENTATION):
        yield


def _attention(longest: int) -> Callable[..., tuple[torch.Tensor, None]]:
    """Causal attention inside each example; [1, heads, tokens, size] in, [1, tokens, heads, size] out."""
    from torch.nn.attention.varlen import varlen_attn

    # The name of this one argument changed between releases of PyTorch.
    by_window = "window_size" in inspect.signature(varlen_attn).parameters
    causal: dict[str, Any] = {"window_size": (-1, 0)} if by_window else {"is_causal": True}

    def attend(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, None]:
        starts, scale = kwargs["starts"], kwargs["scaling"]
        if not value.is_cuda:
            return _one_by_one(query, key, value, starts, scale).transpose(1, 2), None
        groups = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(groups, 1) for states in (key, value))
        # The kernel's own scale is that of the head's size, which is what causal models use; Gemma's is not.
        query = query * (scale * query.shape[-1] ** 0.5)
        flat = [states[0].transpose(0, 1).to(value.dtype).contiguous() for states in (query, key, value)]
        out = varlen_attn(*flat, starts, starts, longest, longest, **causal)
        return out[None], None

    return attend


def _one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, scale: float
) -> torch.Tensor:
    parts = []
    for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if first < last:
            part = [states[:, :, first:last] for states in (query, key, value)]
            parts.append(functional.scaled_dot_product_attention(*part, is_causal=True, scale=scale, enable_gqa=True))
    return torch.cat(parts, dim=2)
