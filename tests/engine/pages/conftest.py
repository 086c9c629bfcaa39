"""What the tests of the page store share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from longleaf.engine.pages.fingerprint import Fingerprint
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore

SHAPE = PageShape(layers=2, kv_heads=2, head_size=8, page=16, dtype=torch.bfloat16)


def written(tokens: list[int], shape: PageShape = SHAPE) -> tuple[PageStore, int]:
    """A store with a sequence whose keys and values follow from the tokens before them, as a model's do."""
    store = PageStore(shape)
    sequence = store.new()
    before = torch.tensor(tokens).cumsum(0).remainder(997)
    for layer in range(shape.layers):
        channel = torch.arange(1, 1 + shape.kv_heads * shape.head_size).view(shape.kv_heads, 1, shape.head_size)
        keys = torch.sin(before[None, :, None] * channel / 7 + layer).to(shape.dtype)
        store.append(sequence, layer, keys, -keys)
    return store, sequence


@pytest.fixture
def shape() -> PageShape:
    return SHAPE


@pytest.fixture
def write() -> Callable[..., tuple[PageStore, int]]:
    return written


@pytest.fixture
def fingerprint() -> Fingerprint:
    return Fingerprint("weights", "tokenizer", "bfloat16", "rope 10000", "dense", SHAPE.page)
