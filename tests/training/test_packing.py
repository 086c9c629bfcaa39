"""Rows of examples, one behind the other: nothing is lost, and none sees another."""

from itertools import takewhile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import build_model

packing = pytest.importorskip("packing")

LENGTHS = st.lists(st.integers(2, 90), min_size=1, max_size=60)


def rows_of(lengths):
    return [
        packing.Encoded("short", "", tuple(1 + (n * 7 + place) % 60 for place in range(length)), max(1, length // 2))
        for n, length in enumerate(lengths)
    ]


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(0, 5))
def test_an_epoch_is_every_example_once_in_rows_within_the_limit(lengths, seed):
    rows = rows_of(lengths)
    epoch = [batch for _, batch in takewhile(lambda one: one[0] < 1.0, packing.batches(rows, 200, seed))]
    assert all(sum(len(row.ids) for row in batch) <= 200 for batch in epoch)
    assert sorted(row.ids for batch in epoch for row in batch) == sorted(row.ids for row in rows)


def test_the_order_is_the_seed_s_alone():
    rows = rows_of(range(2, 40))
    assert next(packing.batches(rows, 200, 3)) == next(packing.batches(rows, 200, 3))
    assert next(packing.batches(rows, 200, 3)) != next(packing.batches(rows, 200, 4))


@settings(max_examples=40, deadline=None)
@given(LENGTHS)
def test_what_is_learned_is_each_reply_and_its_places_are_those_before(lengths):
    rows = rows_of(lengths)
    batch = next(packing.batches(rows, 200, 0))[1]
    row = packing.packed(batch, 200, 90)
    assert row.ids.shape == row.positions.shape == (1, 200)
    assert row.wanted.tolist() == [token for item in batch for token in item.ids[item.asked :]]
    assert torch.equal(row.ids[0, row.learned + 1], row.wanted)
    assert row.starts[-1] == 200
    assert int((row.starts[1:] - row.starts[:-1]).max()) <= 90
    fresh = row.positions[0] == 0
    assert set(row.starts[row.starts < 200].tolist()) == set(fresh.nonzero().flatten().tolist())


def test_an_example_of_many_tokens_counts_as_their_root():
    row = packing.packed([packing.Encoded("a", "", tuple(range(1, 20)), 3)], 64, 32)
    assert float(row.weights.sum()) == pytest.approx(16**0.5)


def test_examples_do_not_see_each_other(tiny_model):
    rows = rows_of([17, 30, 9, 22])
    with packing.packs(tiny_model, 40):
        together = packing.losses(tiny_model, packing.packed(rows, 96, 40))
        apart = [packing.losses(tiny_model, packing.packed([row], len(row.ids), 40)) for row in rows]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)
    plain = []
    for row in rows:
        logits = tiny_model(input_ids=torch.tensor([row.ids])).logits[0, row.asked - 1 : -1]
        plain.append(torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.asked :]), reduction="none"))
    assert torch.allclose(together, torch.cat(plain), atol=1e-5)


@pytest.fixture
def tiny_model():
    return build_model(64, window=512, spread=0.02, seed=5).eval()
