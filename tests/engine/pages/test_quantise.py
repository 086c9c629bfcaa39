"""Stored formats: exact is bit-equal, int8 and int4 are close on keys that look like a model's."""

import pytest
import torch

from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.quantise import FORMATS, decode, encode, record_bytes
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore


def realistic(shape, pages=8, seed=0):
    """Keys with a few channels that are large for every token, and values without: `[pages, 2, heads, page, size]`."""
    random = torch.Generator().manual_seed(seed)
    numbers = torch.randn(pages, 2, shape.kv_heads, shape.page, shape.head_size, generator=random)
    large = torch.randperm(shape.head_size, generator=random)[:4]
    numbers[:, 0, ..., large] += 12 * torch.randn(4, generator=random).sign()
    return numbers.to(shape.dtype)


def relative_error(read, wanted):
    return float((read.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("stored", FORMATS)
def test_records_have_the_size_that_was_said(dtype, stored):
    shape = PageShape(1, 2, 32, 48, dtype)
    records = encode(realistic(shape), stored)
    assert records.shape == (8, record_bytes(shape, stored))
    assert decode(records, shape, stored).dtype == dtype


def test_exact_is_bit_equal(shape):
    pages = realistic(shape)
    assert torch.equal(decode(encode(pages, "exact"), shape, "exact"), pages)


@pytest.mark.parametrize(("stored", "keys", "values"), [("int8", 0.0020, 0.0060), ("int4", 0.032, 0.100)])
@pytest.mark.parametrize("page", [16, 64, 128])
def test_the_error_is_what_the_page_on_tiers_says(stored, keys, values, page):
    shape = PageShape(1, 3, 64, page, torch.float32)
    pages = realistic(shape)
    read = decode(encode(pages, stored), shape, stored)
    assert 0 < relative_error(read[:, 0], pages[:, 0]) < keys
    assert 0 < relative_error(read[:, 1], pages[:, 1]) < values


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_constant_channels_and_extremes_stay_finite(stored):
    shape = PageShape(1, 1, 16, 16, torch.float32)
    pages = torch.zeros(1, 2, 1, 16, 16)
    pages[..., 0] = 3.5
    pages[..., 1] = 1e30
    pages[..., 2] = -1e30
    read = decode(encode(pages, stored), shape, stored)
    assert torch.isfinite(read).all()
    assert torch.equal(read[:, 0, ..., 0], pages[:, 0, ..., 0])
    assert not read[:, 0, ..., 3:].any()


@pytest.mark.parametrize(("stored", "error"), [("int8", 0.01), ("int4", 0.1)])
def test_a_quantised_tier_gives_pages_back_within_the_error(stored, error):
    shape = PageShape(2, 2, 32, 16, torch.float32)
    store = PageStore(shape, capacity=3, host=HostTier(), format=stored)
    sequence = store.new()
    pages = realistic(PageShape(2, 2, 32, 16, torch.float32), pages=20)
    for page in pages:
        for layer in range(2):
            store.append(sequence, layer, page[0], page[1])
    keys, values = store.gather(sequence, 1, torch.tensor([[0, 5]]))
    assert 0 < relative_error(keys, torch.cat([pages[0, 0], pages[5, 0]], dim=1)) < error
    assert 0 < relative_error(values, torch.cat([pages[0, 1], pages[5, 1]], dim=1)) < error
    assert store.stats().evictions > 0
