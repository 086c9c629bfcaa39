"""A model's decode step as one CUDA graph: transformers' forward compiled, attention an opaque operation a layer.

Launched one by one, the kernels of a step cost more on the host than on the card. Here nothing of a step depends on
the host: tokens and lengths live on the card and are advanced there, so a loop of steps is a loop of graph replays.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import torch

from longleaf.engine.errors import EngineFailed

# The name under which transformers knows a step's attention.
_IMPLEMENTATION = "longleaf_decode_step"
# Operations of torch take numbers, not objects: a step is found again by its number.
_STEPS: weakref.WeakValueDictionary[int, DecodeStep] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()
_WARM_UPS = 3


class StepLayer(Protocol):
    """One layer's keys and values, and how a new token attends to them."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Store each row's new token and attend: `query` `[rows, heads, head_size]`, `key` and `value` `[rows,
        kv_heads, 1, head_size]`; `lengths`, int32 `[rows]`, count the new token. Returns the shape of `query`.

        Nothing may wait for the host, and every launch's shape must be the same each time.
        """
        ...


class DecodeStep:
    """Decodes one token a row at a time, greedily, for a causal language model of transformers.

    `compiled` names a mode of torch.compile; None runs the model as it is. The order is `use`, `begin`, `run`; until
    `capture` is called a step is launched kernel by kernel.
    """

    def __init__(self, model: Any, rows: int, *, compiled: str | None = "default") -> None:
        config = model.config.get_text_config(decoder=True)
        _register()
        self.layers: tuple[StepLayer, ...] = ()
        self.tokens = torch.zeros(rows, 1, dtype=torch.int64, device=model.device)
        self.lengths = torch.zeros(rows, dtype=torch.int32, device=model.device)
        self.logits: torch.Tensor | None = None
        self._active = torch.zeros_like(self.lengths)
        self._model, self._config, self._room, self._longest = model, config, 0, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._number = next(_NUMBERS)
        _STEPS[self._number] = self
        self._forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._logits
        if compiled is not None:
            self._forward = torch.compile(self._logits, dynamic=False, mode=compiled)

    def use(self, layers: Sequence[StepLayer], room: int) -> None:
        """Decode over these layers, in which a row may come to have `room` tokens. What was compiled is kept."""
        if len(layers) != self._config.num_hidden_layers:
            raise EngineFailed(
                f"the model has {self._config.num_hidden_layers} layers and pages were given for {len(layers)}"
            )
        self.layers, self._room, self._graph = tuple(layers), room, None

    def begin(self, tokens: Sequence[int], lengths: Sequence[int]) -> None:
        """The token each row reads next, and how many its pages hold before it; a row of length 0 is padding."""
        self.tokens.copy_(torch.tensor(tokens, dtype=torch.int64)[:, None])
        self.lengths.copy_(torch.tensor(lengths, dtype=torch.int32))
        self._active.copy_((self.lengths > 0).int())
        self._longest = max(lengths)

    @torch.no_grad()
    def capture(self) -> None:
        """Record a step as a CUDA graph. What the pages hold beyond the rows' lengths is overwritten."""
        if self._longest + _WARM_UPS > self._room:
            raise EngineFailed(f"rows of {self._longest} tokens leave no room of {self._room} to record a step in")
        tokens, lengths = self.tokens.clone(), self.lengths.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self._graph = graph
        self.tokens.copy_(tokens)
        self.lengths.copy_(lengths)

    @torch.no_grad()
    def run(self, steps: int) -> torch.Tensor:
        """The next `steps` tokens of each row, int64 `[rows, steps]` on the model's device, not waited for.

        Raises `EngineFailed` where the pages have no room for them.
        """
        if self._longest + steps > self._room:
            raise EngineFailed(
                f"a row has {self._longest} tokens and its pages hold {self._room}; {steps} more do not fit"
            )
        self._longest += steps
        found = torch.empty(len(self.tokens), steps, dtype=torch.int64, device=self.tokens.device)
        for index in range(steps):
            if self._graph is None:
                self._step()
            else:
                self._graph.replay()
            found[:, index : index + 1].copy_(self.tokens)
        return found

    def _step(self) -> None:
        self.lengths.add_(self._active)
        positions = (self.lengths - 1).clamp_min(0)[:, None].long()
        with _attending(self._config):
            self.logits = self._forward(self.tokens, positions)
        self.tokens.copy_(self.logits[:, -1].argmax(-1, keepdim=True))

    def _logits(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        # Without a cache transformers hands the attention the new token alone; the layers have the others.
        logits: torch.Tensor = self._model(
            input_ids=tokens, position_ids=positions, use_cache=False, step=self._number
        ).logits
        return logits


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    sliding_window: int | None = None,
    step: int = -1,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if softcap is not None or s_aux is not None or sliding_window is not None:
        raise EngineFailed("this model's attention is capped, has sinks or a window; decode it with torch")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return torch.ops.longleaf.decode_layer(query, key, value, step, module.layer_idx, scale), None


def _decode_layer(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: int, layer: int, scale: float
) -> torch.Tensor:
    running = _STEPS[step]
    return running.layers[layer](query.squeeze(2), key, value, running.lengths, scale)[:, None]


def _decode_layer_shape(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: int, layer: int, scale: float
) -> torch.Tensor:
    rows, heads, _, head_size = query.shape
    return query.new_empty(rows, 1, heads, head_size)


@cache
def _register() -> None:
    from transformers import AttentionInterface

    # Pages are changed behind torch's back, which is safe because each layer's result feeds the next layer.
    operation = torch.library.custom_op("longleaf::decode_layer", _decode_layer, mutates_args=())
    operation.register_fake(_decode_layer_shape)
    AttentionInterface.register(_IMPLEMENTATION, _attend)


@contextmanager
def _attending(config: Any) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = _IMPLEMENTATION
    try:
        yield
    finally:
        config._attn_implementation = before
