"""Keys and values of running requests, and moving them between requests and batches.

Shapes: keys and values of a layer are `[rows, kv_heads, tokens, head_size]`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

Layer = tuple[torch.Tensor, torch.Tensor]


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """A layer that writes in place into a buffer with room to grow.

    transformers' own layer copies all keys and values for every token, which at 8,000 tokens costs as much
    time as the attention itself.
    """

    def __init__(self, reserve: int = 0) -> None:
        super().__init__()
        self._reserve = reserve
        self._key_buffer: torch.Tensor | None = None
        self._value_buffer: torch.Tensor | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Layer:
        """Append `[rows, kv_heads, new, head_size]`; returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        need = held + key_states.shape[-2]
        if self._key_buffer is None or self._value_buffer is None or need > self._key_buffer.shape[-2]:
            room = max(need + max(256, need // 8), self._reserve)
            self._key_buffer = _moved(self._key_buffer, key_states, held, room)
            self._value_buffer = _moved(self._value_buffer, value_states, held, room)
        self._key_buffer[:, :, held:need] = key_states
        self._value_buffer[:, :, held:need] = value_states
        self.keys = self._key_buffer[:, :, :need]
        self.values = self._value_buffer[:, :, :need]
        return self.keys, self.values


def _moved(old: torch.Tensor | None, like: torch.Tensor, held: int, room: int) -> torch.Tensor:
    rows, heads, _, size = like.shape
    buffer = like.new_empty(rows, heads, room, size)
    if old is not None:
        buffer[:, :, :held] = old[:, :, :held]
    return buffer


def cache_name(module: Any) -> str:
    """The argument by which a model of transformers takes its cache: newer versions call it `cache`."""
    return _cache_name(type(module).forward)


@functools.cache
def _cache_name(forward: Callable[..., Any]) -> str:
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def new_cache(layers: int, reserve: int = 0) -> Any:
    """An empty cache with room for `reserve` tokens before it grows."""
    return Cache(layers=[GrowingLayer(reserve) for _ in range(layers)])


def cache_from(layers: Sequence[Layer], length: int, reserve: int) -> Any:
    """A cache that starts with a copy of the first `length` tokens of `layers`."""
    cache = new_cache(len(layers), reserve)
    for layer, (keys, values) in zip(cache.layers, layers, strict=True):
        layer.update(keys[:, :, :length], values[:, :, :length])
    return cache


def layers_of(cache: Any) -> tuple[Layer, ...]:
    """Views of a cache's keys and values as they are now; later tokens do not show in them."""
    return tuple((layer.keys, layer.values) for layer in cache.layers)


@torch.inference_mode()
def merge(caches: list[Any], reserve: int) -> tuple[Any, list[int]]:
    """One cache of many rows from caches of one row each, shorter ones padded at the left.

    Returns it with the padding of each row in tokens. The given caches are emptied layer by layer, so that no
    more than one layer exists twice.
    """
    lengths = [int(cache.get_seq_length()) for cache in caches]
    longest = max(lengths)
    merged = new_cache(len(caches[0].layers), longest + reserve)
    for index, layer in enumerate(merged.layers):
        keys = _stacked([cache.layers[index].keys for cache in caches], longest)
        values = _stacked([cache.layers[index].values for cache in caches], longest)
        layer.update(keys, values)
        for cache in caches:
            # Not `reset`, which may zero tensors that the kept prefixes share.
            cache.layers[index] = GrowingLayer()
    return merged, [longest - length for length in lengths]


def _stacked(parts: list[torch.Tensor], longest: int) -> torch.Tensor:
    _, heads, _, size = parts[0].shape
    # Padding is masked, but a NaN in it would still spoil the sum, so it is zeroed.
    stacked = parts[0].new_zeros(len(parts), heads, longest, size)
    for row, part in enumerate(parts):
        stacked[row, :, longest - part.shape[-2] :] = part[0]
    return stacked


@torch.inference_mode()
def keep_rows(cache: Any, rows: list[int], drop: int, reserve: int) -> Any:
    """The given rows of a cache, without its first `drop` tokens, which must be padding in all of them."""
    kept = new_cache(len(cache.layers), int(cache.get_seq_length()) - drop + reserve)
    for index, layer in enumerate(kept.layers):
        old = cache.layers[index]
        picked = torch.tensor(rows, device=old.keys.device)
        layer.update(old.keys[picked, :, drop:], old.values[picked, :, drop:])
        cache.layers[index] = GrowingLayer()
    return kept
