"""What the torch reference computes, against attention with a mask."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.contract import BlockMask, Paged, Plan


def masked(query, keys, values, allowed, scale):
    group = query.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
    logits = (query @ keys.mT * scale).masked_fill(~allowed, float("-inf"))
    return logits.softmax(dim=-1) @ values


@settings(max_examples=40, deadline=None)
@given(
    held=st.integers(0, 70),
    new=st.integers(1, 60),
    size=st.sampled_from([8, 16]),
    shared=st.booleans(),
    seed=st.integers(0, 99),
)
def test_chosen_blocks_are_what_is_read(held, new, size, shared, seed):
    generator = torch.Generator().manual_seed(seed)
    every = held + new
    query = torch.randn(1, 6, new, 8, generator=generator)
    keys, values = torch.randn(2, 1, 2, every, 8, generator=generator)
    places = torch.arange(held, every)
    first, end = held // size, -(-every // size)
    blocks = torch.rand(1, 1 if shared else 6, end - first, end, generator=generator) < 0.4
    for number in range(first, end):
        blocks[:, :, number - first, number] = True  # a query always sees itself
    token = torch.arange(every)
    allowed = blocks[:, :, places // size - first][..., token // size] & (token <= places[:, None])

    got = TorchAttend().prefill(query, keys, values, BlockMask(blocks, size, held), 0.4)
    assert torch.allclose(got, masked(query, keys, values, allowed, 0.4), atol=1e-5)
    dense = TorchAttend().prefill(query, keys, values, None, 0.4)
    assert torch.allclose(dense, masked(query, keys, values, token <= places[:, None], 0.4), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    lists=st.sampled_from([1, 2]),
    strided=st.booleans(),
    seed=st.integers(0, 99),
)
def test_chosen_pages_are_what_is_read(lengths, lists, strided, seed):
    generator = torch.Generator().manual_seed(seed)
    page, rows, logical = 16, len(lengths), -(-max(lengths) // 16)
    pool = torch.randn(40, 2, 2, page, 8, generator=generator)
    keys, values = (pool[:, 0], pool[:, 1]) if strided else (pool[:, 0].contiguous().mT.contiguous().mT, pool[:, 1])
    table = torch.randperm(39, generator=generator)[: rows * logical].view(rows, logical).int() + 1
    paged = Paged(keys, values, table, torch.tensor(lengths, dtype=torch.int32))
    query = torch.randn(rows, 4, 8, generator=generator)
    pages = torch.full((rows, lists, logical), -1, dtype=torch.int32)
    seen = torch.zeros(rows, lists, logical * page, dtype=torch.bool)
    for row, length in enumerate(lengths):
        newest = (length - 1) // page
        for index in range(lists):
            some = [n for n in range(newest) if torch.rand(1, generator=generator) < 0.5]
            pages[row, index, : len(some) + 1] = torch.tensor([*some, newest], dtype=torch.int32)
            for n in (*some, newest):
                seen[row, index, n * page : min((n + 1) * page, length)] = True
    plan = Plan(pages, (pages >= 0).sum(-1).int())

    whole = [part[table.long()].transpose(1, 2).flatten(2, 3) for part in (keys, values)]
    allowed = seen.expand(-1, 2, -1).repeat_interleave(2, dim=1)[:, :, None]
    want = masked(query[:, :, None], *whole, allowed, 0.4)[:, :, 0]
    assert torch.allclose(TorchAttend().decode(query, paged, plan, 0.4), want, atol=1e-5)
    everything = (torch.arange(logical * page) < torch.tensor(lengths)[:, None])[:, None, None]
    want = masked(query[:, :, None], *whole, everything, 0.4)[:, :, 0]
    assert torch.allclose(TorchAttend().decode(query, paged, None, 0.4), want, atol=1e-5)
