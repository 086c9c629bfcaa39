"""The page store against plain tensors: appends, forks, truncates and drops in any order, with and without a tier."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore

SHAPE = PageShape(layers=3, kv_heads=2, head_size=4, page=16, dtype=torch.float32)


class Model:
    """A store beside what it should hold: keys and values `[layers, 2, kv_heads, tokens, head_size]` a sequence."""

    def __init__(self, store):
        self.store = store
        self.held = {}
        self.random = torch.Generator().manual_seed(0)

    def tokens(self, count):
        shape = self.store.shape
        return torch.randn(shape.layers, 2, shape.kv_heads, count, shape.head_size, generator=self.random)

    def new(self):
        sequence = self.store.new()
        self.held[sequence] = self.tokens(0)
        return sequence

    def append(self, sequence, count):
        new = self.tokens(count)
        for layer, (keys, values) in enumerate(new):
            self.store.append(sequence, layer, keys, values)
        self.held[sequence] = torch.cat([self.held[sequence], new], dim=3)

    def fork(self, sequence, tokens):
        child = self.store.fork(sequence, tokens)
        self.held[child] = self.held[sequence][..., :tokens, :].clone()
        return child

    def truncate(self, sequence, tokens):
        self.store.truncate(sequence, tokens)
        self.held[sequence] = self.held[sequence][..., :tokens, :]

    def drop(self, sequence):
        self.store.drop(sequence)
        del self.held[sequence]

    def check(self, tolerance=0.0):
        for sequence, wanted in self.held.items():
            length = wanted.shape[3]
            assert self.store.length(sequence) == length
            pages = self.store.shape.pages(length)
            for layer in range(self.store.shape.layers):
                paged = self.store.paged([sequence], layer)
                assert paged.lengths.tolist() == [length]
                assert paged.table.shape == (1, pages)
                settled = self.store.resident([sequence], layer)
                assert settled is None or torch.equal(settled, paged.table)
                assert (paged.table > 0).all()
                for pool, side in ((paged.keys, 0), (paged.values, 1)):
                    read = pool[paged.table[0].long()].transpose(0, 1).flatten(1, 2)[:, :length]
                    torch.testing.assert_close(read, wanted[layer, side], rtol=0, atol=tolerance)


def steps():
    choice = st.integers(0, 10**6)
    return st.lists(
        st.one_of(
            st.just(("new",)),
            st.tuples(st.just("append"), choice, st.integers(1, 40)),
            st.tuples(st.just("fork"), choice, st.floats(0, 1)),
            st.tuples(st.just("truncate"), choice, st.floats(0, 1)),
            st.tuples(st.just("drop"), choice),
        ),
        max_size=25,
    )


def play(model, todo, sequences=25, tokens=10**6):
    model.append(model.new(), 20)
    for step in todo:
        alive = sorted(model.held)
        if not alive:
            model.new()
            continue
        if step[0] in ("new", "fork") and len(alive) >= sequences:
            model.drop(alive[0])
            continue
        if step[0] == "new":
            model.new()
            continue
        sequence = alive[step[1] % len(alive)]
        length = model.held[sequence].shape[3]
        match step[0]:
            case "append" if length + step[2] <= tokens:
                model.append(sequence, step[2])
            case "fork":
                model.fork(sequence, round(step[2] * length))
            case "truncate":
                model.truncate(sequence, round(step[2] * length))
            case "drop":
                model.drop(sequence)


@given(steps())
@settings(max_examples=60, deadline=None)
def test_holds_what_was_appended(todo):
    model = Model(PageStore(SHAPE))
    play(model, todo)
    model.check()


@given(steps(), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_pages_that_went_to_the_host_come_back(todo, run):
    model = Model(PageStore(SHAPE, capacity=12, host=HostTier(), run=run))
    play(model, todo, sequences=4, tokens=150)  # at most 40 pages a layer
    model.check()


@given(steps())
@settings(max_examples=30, deadline=None)
def test_blocks_are_physical_pages_where_nothing_lies_beneath(todo):
    model = Model(PageStore(SHAPE))
    play(model, todo)
    sequences = sorted(model.held)
    if sequences:
        assert torch.equal(model.store.blocks(sequences)[0], model.store.paged(sequences, 1).table)


@pytest.mark.parametrize(("host", "run", "stays"), [(None, None, True), (None, 1, False), (HostTier(), None, False)])
def test_pages_stay_where_nothing_can_put_them_out(host, run, stays):
    model = Model(PageStore(SHAPE, host=host, run=run))
    for count in (40, 20):
        model.append(model.new(), count)
    table = model.store.resident([1, 2])
    assert (table is not None) == stays
    assert table is None or torch.equal(table, model.store.paged([1, 2], 0).table)


def test_gathers_pages_of_each_head():
    model = Model(PageStore(SHAPE))
    sequence = model.new()
    model.append(sequence, 64)
    pages = torch.tensor([[0, 3], [1, 2]])
    keys, values = model.store.gather(sequence, 1, pages)
    wanted = model.held[sequence][1].unflatten(2, (4, 16))
    for head, row in enumerate(pages.tolist()):
        assert torch.equal(keys[head], wanted[0, head, row].flatten(0, 1))
        assert torch.equal(values[head], wanted[1, head, row].flatten(0, 1))


@pytest.mark.parametrize("host", [None, HostTier()])
def test_a_shared_page_list_with_padding(host):
    model = Model(PageStore(SHAPE, capacity=8, host=host))
    sequence = model.new()
    model.append(sequence, 50)
    keys, _ = model.store.gather(sequence, 2, torch.tensor([[1, 3, -1]]))
    wanted = model.held[sequence][2, 0]
    assert torch.equal(keys[:, :16], wanted[:, 16:32])
    assert torch.equal(keys[:, 16:18], wanted[:, 48:50])
    assert not keys[:, 32:].any()


def test_rows_of_different_lengths_are_padded_with_page_0():
    model = Model(PageStore(SHAPE))
    long, short = model.new(), model.new()
    model.append(long, 40)
    model.append(short, 5)
    paged = model.store.paged([long, short], 0)
    assert paged.table.shape == (2, 3)
    assert paged.table[1, 1:].tolist() == [0, 0]
    assert paged.lengths.tolist() == [40, 5]


def test_a_layer_sees_its_own_step():
    store = PageStore(SHAPE)
    sequence = store.new()
    keys = torch.randn(2, 7, 4)
    store.append(sequence, 0, keys, keys)
    assert store.paged([sequence], 0).lengths.tolist() == [7]
    assert store.paged([sequence], 1).lengths.tolist() == [0]
    assert store.length(sequence) == 0


def test_an_unfinished_step_can_be_taken_back():
    model = Model(PageStore(SHAPE))
    sequence = model.new()
    model.append(sequence, 20)
    lost = torch.randn(2, 30, 4)
    model.store.append(sequence, 0, lost, lost)
    model.truncate(sequence, 20)
    model.append(sequence, 3)
    model.check()


@pytest.mark.parametrize("host", [False, True])
def test_a_kernel_may_write_to_reserved_pages(host):
    model = Model(PageStore(SHAPE, capacity=8, host=HostTier() if host else None))
    document = model.new()
    model.append(document, 20)
    question = model.fork(document, 20)
    model.store.reserve(question, 30)
    tables = [model.store.table(question, layer) for layer in range(3)]
    for place in range(20, 50):
        new = model.tokens(1)
        for layer in range(3):
            for pool, side in zip(model.store.pool(layer), new[layer], strict=True):
                pool[tables[layer][place // 16], :, place % 16] = side[:, 0]
        model.store.advance(question, 1)
        model.held[question] = torch.cat([model.held[question], new], dim=3)
    model.check()
    for layer in range(3):
        assert torch.equal(model.store.table(question, layer), tables[layer])
    with pytest.raises(ValueError, match="were not reserved"):
        model.store.advance(question, 20)
    model.append(question, 20)
    model.check()


def test_reserving_too_much_changes_nothing():
    model = Model(PageStore(SHAPE, capacity=4))
    sequence = model.new()
    model.append(sequence, 20)
    with pytest.raises(PagesFull, match="larger `capacity`"):
        model.store.reserve(sequence, 100)
    model.append(sequence, 40)
    model.check()


def test_layers_must_append_as_many():
    store = PageStore(SHAPE)
    sequence = store.new()
    store.append(sequence, 0, torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="layer 1 appends 2 tokens and the layers before it 3"):
        store.append(sequence, 1, torch.zeros(2, 2, 4), torch.zeros(2, 2, 4))


@pytest.mark.parametrize("limit", [None, 20 * SHAPE.layer_bytes])
def test_a_full_store_stays_usable(limit):
    model = Model(PageStore(SHAPE, capacity=4, host=None if limit is None else HostTier(limit)))
    first, second = model.new(), model.new()
    model.append(first, 30)
    model.append(second, 30)
    room = 2 if limit is None else 50
    while model.store.length(second) < 30 + room:
        model.append(second, 2)
    with pytest.raises(PagesFull, match=r"Drop a sequence"):
        model.append(second, 40)
    model.check()
    model.drop(first)
    model.append(second, 1)
    model.check()


def test_a_shared_page_is_copied_once_and_whole_pages_never():
    model = Model(PageStore(SHAPE, capacity=4))
    document = model.new()
    model.append(document, 40)  # 3 pages of 4
    for _ in range(3):
        question = model.fork(document, 40)
        model.append(question, 8)  # a copy of the third page
        model.check()
        model.drop(question)
