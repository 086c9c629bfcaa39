"""What every registered technique must do. A new one is tested by being registered."""

import dataclasses

import pytest
import tiny_models as tiny
import torch

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.contract import Chunk, Paged, Step
from longleaf.engine.attention.document import Kept, open_document
from longleaf.engine.attention.plans import ReadingPlan
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.registry import techniques
from longleaf.engine.errors import PagesFull
from longleaf.engine.pages.asset import AssetFolder

IN_A_PASS = tiny.used("summary", "prefill", "decode", "heads", "positions")
CHOOSES = [t for t in IN_A_PASS if t.axis != "positions" and not t.by_place]
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def by_name(value):
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else getattr(value, "name", str(value))


def states_for(policy, runner, sequence):
    """What a policy that indexes documents is given at the start of a reply."""
    if not hasattr(policy, "index"):
        return {}
    from longleaf.engine.attention.cache import everything

    layers = range(runner.store.shape.layers)
    return {n: {"index": policy.index(everything(runner.store, sequence, n)[0])} for n in layers}


def read(architecture, policy, positions, *, dtype=torch.float32, chunk=32, prompt=100, reply=6, seed=0):
    """Logits of the last prompt tokens and of a reply that is given, through the pages."""
    runner = tiny.runner(architecture, policy, positions, dtype=dtype, chunk=chunk)
    ids = tiny.tokens(prompt + reply, seed)
    sequence = runner.store.new()
    logits = [runner.prefill(sequence, ids[:prompt], policy, keep=3)]
    states = states_for(policy, runner, sequence)
    for token in ids[prompt:]:
        logits.append(runner.step([sequence], torch.tensor([token]), policy, states=states))
    return torch.cat(logits).float()


def difference(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("dtype", DTYPES, ids=by_name)
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("technique", IN_A_PASS, ids=by_name)
def test_reading_everything_is_dense(technique, architecture, dtype):
    policy, positions = tiny.everything(technique)
    got = read(architecture, policy, positions, dtype=dtype)
    with torch.inference_mode():
        whole = tiny.model(architecture, dtype)(torch.tensor([tiny.tokens(106)])).logits[0, 97:].float()

    assert difference(got, whole) < DTYPES[dtype]


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("technique", IN_A_PASS, ids=by_name)
def test_chunked_is_unchunked(technique, architecture):
    policy, positions = tiny.sparse(technique)
    at_once = read(architecture, policy, positions, chunk=1 << 20)

    assert difference(read(architecture, policy, positions, chunk=32), at_once) < 1e-5


@pytest.mark.parametrize("technique", IN_A_PASS, ids=by_name)
def test_sparse_is_sparse(technique):
    """Otherwise the tests beside this one would show nothing."""
    policy, positions = tiny.sparse(technique)
    if technique.name in ("dense", "true", "packed"):  # nothing is left out, so nothing is packed
        return
    dense = read("llama", None, None)

    assert difference(read("llama", policy, positions), dense) > 1e-4


@pytest.mark.parametrize("technique", IN_A_PASS, ids=by_name)
def test_a_batch_is_its_rows(technique):
    policy, positions = tiny.sparse(technique)
    runner = tiny.runner("llama", policy, positions)
    held = [runner.store.new(), runner.store.new()]
    for seed, (sequence, length) in enumerate(zip(held, (90, 61), strict=True)):
        runner.prefill(sequence, tiny.tokens(length, seed), policy)
    alone = [runner.store.fork(sequence, runner.store.length(sequence)) for sequence in held]
    # An index is of one document, and its rows ask about that.
    if hasattr(policy, "index"):
        held, alone = [held[0], alone[0]], [runner.store.fork(held[0], 90) for _ in range(2)]
    states = states_for(policy, runner, held[0])
    kept = [states_for(policy, runner, held[0]) for _ in alone]
    for step in range(4):
        new = torch.tensor(tiny.tokens(2, seed=9 + step))
        together = runner.step(held, new, policy, states=states)
        apart = [
            runner.step([sequence], new[row : row + 1], policy, states=kept[row]) for row, sequence in enumerate(alone)
        ]
        assert difference(together, torch.cat(apart)) < 1e-5


def pages_with_a_planted_key(policy, place, *, rows=1, seed=1):
    """A step over random keys, of which one per KV head is a long vector in the query's direction."""
    generator = torch.Generator().manual_seed(seed)
    page, logical, heads, size = tiny.PAGE, 24, 2, 8
    keys = torch.randn(logical + 1, heads, page, size, generator=generator) * 0.3
    values = torch.randn(logical + 1, heads, page, size, generator=generator)
    one = torch.randn(1, heads, 1, size, generator=generator)
    query = one.expand(-1, -1, 2, -1).reshape(1, 4, size) * 2
    keys[1 + place // page, :, place % page] = one[0, :, 0] * 6
    keys[0], values[0] = 0, 0
    table = torch.zeros(rows, logical, dtype=torch.int32)
    table[0] = torch.arange(1, logical + 1)
    lengths = torch.zeros(rows, dtype=torch.int32)
    lengths[0] = logical * page - 3
    summary = getattr(policy, "summary", None) or getattr(getattr(policy, "policy", None), "summary", None)
    buffer = torch.zeros(0)
    if summary is not None:
        buffer = torch.zeros(logical + 1, heads, summary.width(page, size))
        summary.update(buffer, keys, torch.arange(1, logical + 1), torch.full((logical,), page, dtype=torch.int32))
    state = {}
    if hasattr(policy, "index"):
        state["index"] = policy.index(keys[1:].transpose(0, 1).flatten(1, 2)[:, : logical * page - 16])
    paged = Paged(keys, values, table, lengths)
    held = tuple(lengths.tolist())
    return query.repeat(rows, 1, 1), Step(1, 3, paged, buffer, size**-0.5, table, held, state)


@pytest.mark.parametrize("place", [70, 140, 200, 303])
@pytest.mark.parametrize("technique", [t for t in CHOOSES if t.axis != "prefill"], ids=by_name)
def test_a_planted_key_is_read_in_decoding(technique, place):
    policy, _ = tiny.sparse(technique)
    if technique.axis == "heads":
        policy = dataclasses.replace(policy, retrieval=None)
    query, step = pages_with_a_planted_key(policy, place)
    plan = policy.decode(query, step)

    if plan is not None:
        assert (plan.pages == place // tiny.PAGE).any(dim=-1).all()
        assert plan.pages.shape[-1] < step.blocks.shape[1], "everything was read, so this shows nothing"


@pytest.mark.parametrize("place", [70, 140, 171])
@pytest.mark.parametrize("technique", [t for t in CHOOSES if t.axis == "prefill"], ids=by_name)
def test_a_planted_key_is_read_in_prefill(technique, place):
    policy, _ = tiny.sparse(technique)
    generator = torch.Generator().manual_seed(place)
    query = torch.randn(1, 1, 1, 8, generator=generator).expand(1, 4, 224, 8) * 2
    keys = torch.randn(1, 2, 224, 8, generator=generator) * 0.3
    keys[:, :, place] = query[0, 0, 0] * 3
    mask = policy.prefill(query, keys, Chunk(1, 3, 0, 8**-0.5, 224))

    later = mask.blocks[:, :, place // 16 + 2 :, place // 16]
    assert later.all()
    assert not mask.blocks.all()


@pytest.mark.parametrize("technique", techniques("eviction"), ids=by_name)
def test_a_planted_key_is_kept(technique):
    policy = technique.build()
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(4, 8, 8, generator=generator) * 0.1 + 2
    keys = torch.randn(2, 200, 8, generator=generator) * 0.3 - 1
    keys[:, 77] = 3
    kept = policy.keep(query, keys, 40, 8**-0.5)

    assert kept.shape == (2, 40)
    assert (kept == 77).any(dim=1).all()
    assert torch.equal(policy.keep(query, keys, 200, 8**-0.5), torch.arange(200).expand(2, -1))


@pytest.mark.parametrize("technique", [t for t in IN_A_PASS if t.axis != "positions"], ids=by_name)
def test_padded_rows_are_inert(technique):
    policy, _ = tiny.sparse(technique)
    query, step = pages_with_a_planted_key(policy, 140)
    alone = TorchAttend().decode(query, step.paged, policy.decode(query, step), step.scale)
    query, step = pages_with_a_planted_key(policy, 140, rows=3)
    padded = TorchAttend().decode(query, step.paged, policy.decode(query, step), step.scale)

    assert torch.allclose(padded[:1], alone, atol=1e-6)
    assert padded.isfinite().all()


@pytest.mark.parametrize("technique", IN_A_PASS, ids=by_name)
def test_a_full_store_stays_usable(technique):
    policy, positions = tiny.sparse(technique)
    runner = tiny.runner("llama", policy, positions, capacity=5)
    sequence, other = runner.store.new(), runner.store.new()
    runner.prefill(sequence, tiny.tokens(40), policy)
    with pytest.raises(PagesFull):
        runner.prefill(other, tiny.tokens(64), policy)
    held = runner.store.length(other)
    runner.store.drop(other)
    states = states_for(policy, runner, sequence)
    got = runner.step([sequence], torch.tensor([1]), policy, states=states)

    assert held % 32 == 0
    assert runner.store.length(sequence) == 41
    free = tiny.runner("llama", policy, positions)
    same = free.store.new()
    free.prefill(same, tiny.tokens(40), policy)
    want = free.step([same], torch.tensor([1]), policy, states=states_for(policy, free, same))
    assert torch.equal(got, want)


@pytest.mark.parametrize("technique", IN_A_PASS, ids=by_name)
def test_what_is_kept_on_disk_comes_back_bit_for_bit(technique, tmp_path):
    policy, positions = tiny.sparse(technique)
    plan = ReadingPlan(technique.name, policy or Dense(), policy or Dense(), positions)
    ids, question = tiny.tokens(120), tiny.tokens(5, seed=8)
    made = tiny.runner("llama", policy, positions)
    kept = Kept(AssetFolder(tmp_path), plan.fingerprint("model", "tokenizer", made.store))
    document = open_document(made, ids, plan, window=512)
    document.keep(kept)
    later = tiny.runner("llama", policy, positions)
    again = open_document(later, ids, plan, window=512, kept=kept)

    assert again.length == 120
    assert later.store.block_room == 9
    first, second = document.answer(question, max_tokens=6), again.answer(question, max_tokens=6)
    assert (second.tokens, second.reads) == (first.tokens, first.reads)
    logits = []
    for runner, sequence in ((made, document.sequence), (later, again.sequence)):
        states = states_for(policy, runner, sequence)
        logits.append(runner.step([sequence], torch.tensor([7]), policy, states=states))
    assert torch.equal(*logits)
