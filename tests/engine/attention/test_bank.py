"""Summaries that come from files: read when they are wanted, and never over what has taken their place."""

import zlib
from pathlib import Path

import pytest
import torch

from longleaf.engine.attention.bank import SummaryBank
from longleaf.engine.attention.summary.mean import Mean
from longleaf.engine.errors import SegmentDamaged
from longleaf.engine.pages.disk import KeptSummary
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore

SHAPE = PageShape(2, 1, 4, 16, torch.float32)


def written(store, pages, seed=0):
    sequence = store.new()
    numbers = torch.randn(2, 2, 1, pages * 16, 4, generator=torch.Generator().manual_seed(seed))
    for layer in range(2):
        store.append(sequence, layer, *numbers[layer])
    return sequence


def kept(numbers):
    checks = tuple(zlib.crc32(layer.contiguous().view(torch.uint8).numpy()) for layer in numbers)
    return KeptSummary(Path("nowhere.kv"), numbers, checks)


def of(bank, sequence, layer):
    blocks, _ = bank._store.blocks([sequence])
    return bank.layer(layer)[blocks[0].long()]


def test_summaries_are_restored_in_parts():
    store = PageStore(SHAPE)
    sequence = written(store, 5)
    first, second = SummaryBank(store, Mean()), SummaryBank(store, Mean())
    first.describe(sequence)
    parts = [first.of(sequence, range(3), 80), first.of(sequence, range(3, 5), 80)]
    second.restore(sequence, [kept(part) for part in parts])
    for layer in range(2):
        assert torch.equal(of(second, sequence, layer), of(first, sequence, layer))
    assert not first.of(sequence, range(3, 5), 79)[:, 1].any(), "a page that is not full"


def test_a_damaged_layer_is_not_used_and_others_are():
    store = PageStore(SHAPE)
    sequence, bank = written(store, 2), SummaryBank(store, Mean())
    part = kept(torch.randn(2, 2, 1, 4))
    part.numbers[1, 0, 0, 0] += 1
    bank.restore(sequence, [part])
    assert torch.equal(of(bank, sequence, 0), part.numbers[0])
    for _ in range(2):
        with pytest.raises(SegmentDamaged):
            bank.layer(1)


def test_what_waits_is_not_put_over_what_came_later():
    store = PageStore(SHAPE)
    gone, bank = written(store, 3), SummaryBank(store, Mean())
    part = kept(torch.randn(2, 3, 1, 4))
    bank.restore(gone, [part])
    stays = store.fork(gone, 16)
    store.drop(gone)
    later = written(store, 2, seed=1)
    bank.describe(later)
    fresh = SummaryBank(store, Mean())
    fresh.describe(later)
    assert torch.equal(of(bank, later, 0), of(fresh, later, 0))
    assert torch.equal(of(bank, stays, 0), part.numbers[0, :1])
