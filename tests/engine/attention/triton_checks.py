"""Checks of the kernels against torch, run by `test_triton` as a script with the name of a part.

Memory that nobody should read holds NaN, and pages lie in any order.
"""

import sys

import torch
from triton.runtime import interpreter

from longleaf.engine.attention.contract import BlockMask, Paged, Plan

_PATCH = interpreter._patch_lang_tensor


def _patch(tensor, scope):
    # NumPy 2.4 makes no number of an array of one element, and Triton 3.6's interpreter asks it to.
    _PATCH(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


interpreter._patch_lang_tensor = _patch

from longleaf.engine.attention.triton.append import append, summarize, summary_width  # noqa: E402
from longleaf.engine.attention.triton.attend import TritonAttend  # noqa: E402
from longleaf.engine.attention.triton.decode import Decoder  # noqa: E402
from longleaf.engine.attention.triton.host import HostLayer, quantise  # noqa: E402
from longleaf.engine.attention.triton.layers import PagedLayer  # noqa: E402
from longleaf.engine.attention.triton.prefill import estimate, prefill, prefill_chosen, run_means  # noqa: E402
from longleaf.engine.attention.triton.retrieve import Retriever, score  # noqa: E402
from longleaf.engine.attention.triton.select import select  # noqa: E402
from longleaf.engine.errors import EngineFailed  # noqa: E402

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3}
NAN = float("nan")


def close(found, expected, dtype):
    error = (found.double() - expected.double()).norm() / expected.double().norm()
    assert error < TOLERANCE[dtype], float(error)


def check_select():
    scores = torch.randn(3, 4, 100)
    scores[0, 0, 7] = NAN
    scores[0, 1] = 1.0
    scores[0, 2] *= 1e-30
    scores[0, 3, 10:] = -torch.inf
    limits = torch.tensor([[100, 57, 100, 99], [3, 1, 2, 8], [0, 9, 100, 64]], dtype=torch.int32)
    for budget, sinks, recent in ((8, 1, 2), (3, 2, 1), (33, 0, 1), (128, 1, 1)):
        pages, counts = select(scores, limits, budget, sinks=sinks, recent=recent)
        for at in ((i, j) for i in range(3) for j in range(4)):
            limit = int(limits[at])
            line = torch.nan_to_num(scores[at][:limit], nan=-torch.inf, neginf=-torch.inf)
            line[:sinks] = torch.inf
            line[max(0, limit - recent) :] = torch.inf
            count = min(limit, budget)
            chosen = pages[at][:count].tolist()
            assert int(counts[at]) == count
            assert pages[at][count:].tolist() == [-1] * (budget - count)
            assert chosen == sorted(set(chosen))
            # Stable descending order: of equal scores the earlier page is chosen.
            assert chosen == sorted(torch.sort(line, descending=True, stable=True).indices[:count].tolist())
    for wrong in ({"budget": 2, "sinks": 2, "recent": 1}, {"budget": 4, "recent": 0}):
        try:
            select(scores, limits, **wrong)
        except EngineFailed:
            continue
        raise AssertionError(wrong)


def check_decode():
    for dtype, kind, page in (
        (torch.float32, "minmax", 16),
        (torch.float16, "minmax", 32),
        (torch.float32, "mean", 16),
        (torch.float32, "mean", 32),  # two means a page
    ):
        rows, kv_heads, group, size, logical = 4, 2, 3, 16, 7
        lengths = torch.tensor([7 * page - 3, 2 * page + 1, page, 0], dtype=torch.int32)
        table = (torch.randperm(rows * logical) + 1).int().view(rows, logical)
        for row in range(rows):
            table[row, -(-int(lengths[row]) // page) :] = 0
        pool = torch.full((2, rows * logical + 1, kv_heads, page, size), NAN, dtype=dtype)
        width = summary_width(kind, page, size)
        summary = torch.full((rows * logical + 1, kv_heads, width), NAN, dtype=dtype)
        paged = Paged(pool[0], pool[1], table, lengths)
        tokens = torch.randn(2, rows, kv_heads, int(lengths.max()), size).to(dtype)
        newest = torch.empty(2, rows, kv_heads, 1, size, dtype=dtype)
        for row in range(rows):
            length = int(lengths[row])
            if not length:
                continue
            newest[:, row] = tokens[:, row, :, length - 1 : length]
            # In two parts that end within a page, the last token apart.
            for begin, end in ((0, length // 3), (length // 3, length - 1)):
                one = Paged(pool[0], pool[1], table[row : row + 1], torch.tensor([end], dtype=torch.int32))
                if end > begin:
                    append(one, summary, *(part[row : row + 1, :, begin:end] for part in tokens), kind)
        query = torch.randn(rows, kv_heads * group, size).to(dtype)
        scale, budget = size**-0.5, 4
        plans = [
            Retriever(budget, kind=kind, fused=fused)(query, summary, paged, scale, new=(newest[0], newest[1]))
            for fused in (True, False)
        ]
        assert torch.equal(plans[0].pages, plans[1].pages)
        assert torch.equal(plans[0].counts, plans[1].counts)
        scores = score(query, summary, paged, scale, kind)
        again = torch.full_like(summary, NAN)
        used = table[table > 0].long()
        filled = (lengths[:, None] - torch.arange(logical) * page).clamp(0, page).int()[table > 0]
        summarize(again, pool[0], used, filled, kind)
        assert torch.equal(again[used], summary[used])
        plan, shared = plans[0], Plan(plans[0].pages[:, :1], plans[0].counts[:, :1])
        out = Decoder(splits=4, tile=32)(query, paged, plan, scale)
        shared_out = Decoder(splits=2, tile=16)(query, paged, shared, scale)
        dense = TritonAttend().decode(query, paged, None, scale)
        assert not out[3].any()
        assert not dense[3].any()
        assert plan.counts[3].tolist() == [0, 0]
        for row in range(rows - 1):
            length = int(lengths[row])
            count = -(-length // page)
            keys, values = tokens[0, row, :, :length].double(), tokens[1, row, :, :length].double()
            for head in range(kv_heads):
                lines = [keys[head, i * page : (i + 1) * page] for i in range(count)]
                q = query[row, head * group : (head + 1) * group].double()
                if kind == "minmax":
                    expected = [torch.maximum(q * x.amin(0), q * x.amax(0)).sum(-1).amax() for x in lines]
                else:
                    means = [torch.stack([part.mean(0) for part in x.split(16)]) for x in lines]
                    expected = [(q @ each.T).amax() for each in means]
                close(scores[row, head, :count], torch.stack(expected) * scale, dtype)
                assert bool((scores[row, head, count:] == -torch.inf).all())
                chosen = plan.pages[row, head, : int(plan.counts[row, head])].tolist()
                assert chosen[0] == 0
                assert chosen[-1] == count - 1
                for found, pages in (
                    (out, chosen),
                    (shared_out, plan.pages[row, 0, : int(plan.counts[row, 0])].tolist()),
                    (dense, range(count)),
                ):
                    read = torch.cat([torch.arange(p * page, min(length, (p + 1) * page)) for p in pages])
                    weights = (q @ keys[head, read].T * scale).softmax(-1)
                    close(found[row, head * group : (head + 1) * group], weights @ values[head, read], dtype)


def dense_prefill(query, keys, values, scale, allowed):
    group, new, length = query.shape[1] // keys.shape[1], query.shape[2], keys.shape[2]
    keys, values = (part.repeat_interleave(group, 1).double() for part in (keys, values))
    scores = query.double() @ keys.mT * scale
    past = torch.arange(length) <= torch.arange(length - new, length)[:, None]
    return scores.masked_fill(~(past & allowed), -torch.inf).softmax(-1) @ values


def check_prefill():
    cases = ((torch.float32, 1, 2, 1, 64, 64, 32, 32), (torch.float16, 2, 3, 3, 50, 133, 16, 16))
    for dtype, rows, heads, kv_heads, new, length, size, block in (*cases, (torch.float32, 1, 2, 2, 33, 200, 16, 32)):
        query = torch.randn(rows, heads, new, size).to(dtype)
        keys, values = (torch.randn(rows, kv_heads, length, size).to(dtype) for _ in range(2))
        scale, start = size**-0.5, length - new
        everything = torch.ones((), dtype=torch.bool)
        expected = dense_prefill(query, keys, values, scale, everything)
        close(prefill(query, keys, values, None, scale), expected, dtype)
        close(prefill(query, keys, values, None, scale, tile=(16, 16)), expected, dtype)
        # Blocks lie on the sequence's grid: the chunk may have only a part of the first.
        begin = start // block
        query_blocks, key_blocks = -(-length // block) - begin, -(-length // block)
        for shared in (True, False):
            mask = torch.rand(rows, 1 if shared else heads, query_blocks, key_blocks) < 0.5
            for index in range(query_blocks):  # a query's own block, so that none has nothing to read
                mask[:, :, index, begin + index] = True
            rows_of = mask.repeat_interleave(block, 2)[:, :, start - begin * block :][:, :, :new]
            tokens = rows_of.repeat_interleave(block, 3)[..., :length]
            found = TritonAttend().prefill(query, keys, values, BlockMask(mask, block, start), scale)
            close(found, dense_prefill(query, keys, values, scale, tokens), dtype)
        try:
            TritonAttend().prefill(query, keys, values, BlockMask(mask, block, start + 1), scale)
        except EngineFailed:
            continue
        raise AssertionError("a mask of another chunk was taken")
    # A planted run of keys is among the few chosen blocks, and a full budget is everything.
    query = torch.randn(1, 4, 48, 16)
    keys, values = (torch.randn(1, 2, 256, 16) for _ in range(2))
    sought = torch.randn(16)
    keys[:, :, 100:108] = 3 * sought
    query += 2 * sought
    few = estimate(query, run_means(keys, 8), 256, 4, size=16, run=8, recent=1)
    for head in range(4):
        for index in range(3):
            assert 100 // 16 in few.blocks[0, head, index, : int(few.counts[0, head, index])].tolist()
    full = estimate(query, run_means(keys, 8), 256, 16, size=16, run=8)
    close(
        prefill(query, keys, values, full, 0.25),
        dense_prefill(query, keys, values, 0.25, torch.ones((), dtype=torch.bool)),
        torch.float32,
    )
    # The end of a prompt reads everything; what stands before it, its blocks.
    query, means = torch.randn(1, 4, 48, 16), run_means(keys, 8)
    dense = dense_prefill(query, keys, values, 0.25, torch.ones((), dtype=torch.bool))
    begun = estimate(query[:, :, :38], means, 246, 4, size=16, run=8)
    for exact in (0, 10, 48, 60):
        found, lists = prefill_chosen(query, keys, values, means, 0.25, budget=4, exact=exact, size=16, run=8)
        first = 48 - min(exact, 48)
        if exact:
            close(found[:, :, first:], dense[:, :, first:], torch.float32)
        assert (lists is None) == (first == 0)
        assert first == 0 or (found[:, :, :first] - dense[:, :, :first]).abs().max() > 1e-3
        if exact == 10:
            close(
                found[:, :, :38],
                prefill(query[:, :, :38], keys[:, :, :246], values[:, :, :246], begun, 0.25),
                torch.float32,
            )


def check_host():
    kv_heads, size, page, count, slots = 2, 16, 16, 40, 16
    keys, values = (torch.randn(count, kv_heads, page, size) for _ in range(2))
    small, by_channel, by_token = quantise(keys, values)
    restored = torch.stack(
        (small[:, :, 0] * by_channel[:, :, None].float(), small[:, :, 1] * by_token[..., None].float()), 2
    )
    original = torch.stack((keys, values), 2)
    assert (restored - original).norm() / original.norm() < 1e-2
    for host, scales, true in ((original, None, original), (small, (by_channel, by_token), restored)):
        layer = HostLayer(
            host,
            scales,
            Retriever(6),
            Decoder(splits=2, tile=32),
            slots=slots,
            tail=2,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )
        layer.keys.fill_(NAN)
        layer.values.fill_(NAN)
        layer.describe(0, true[:, :, 0].contiguous())
        own = torch.zeros(2, kv_heads, 0, size)
        recent: list[list[int]] = [[] for _ in range(kv_heads)]
        hits = [0] * kv_heads
        query = torch.randn(1, 2 * kv_heads, size)
        for step in range(18):
            query = 0.8 * query + 0.6 * torch.randn_like(query)
            new = torch.randn(2, 1, kv_heads, 1, size)
            own = torch.cat((own, new[:, 0]), 2)
            lengths = torch.tensor([count * page + step + 1], dtype=torch.int32)
            out = layer(query, new[0], new[1], lengths, 0.25)
            for head in range(kv_heads):
                chosen = layer.plan.pages[0, head]
                document = [p for p in chosen.tolist() if 0 <= p < count]
                after = [slice((p - count) * page, (p - count + 1) * page) for p in chosen.tolist() if p >= count]
                hits[head] += len(set(document) & set(recent[head]))
                # The page used the longest time ago makes room.
                recent[head] = [p for p in recent[head] if p not in document] + document
                recent[head] = recent[head][-slots:]
                k = torch.cat((true[document, head, 0].flatten(0, 1), *(own[0, head, at] for at in after)))
                v = torch.cat((true[document, head, 1].flatten(0, 1), *(own[1, head, at] for at in after)))
                q = query[0, 2 * head : 2 * head + 2]
                close(out[0, 2 * head : 2 * head + 2], (q @ k.T * 0.25).softmax(-1) @ v, torch.float32)
        assert layer.traffic[:, 0].tolist() == hits
        assert bool((layer.traffic[:, 1] > 0).all())


def check_step():
    from transformers import LlamaConfig, LlamaForCausalLM

    from longleaf.engine.attention.graph import DecodeStep

    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        vocab_size=97,
        head_dim=16,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 97, (1, 37))
    expected = model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 37:]
    held = model(ids[:, :36], use_cache=True).past_key_values
    table = torch.tensor([[3, 1, 4, 2], [0, 0, 0, 0]], dtype=torch.int32)
    step = DecodeStep(model, 2, compiled=None)
    for retriever in (None, Retriever(8)):  # a budget of everything is dense
        decoder = Decoder()
        pools = [[torch.full((5, 2, 16, 16), NAN) for _ in range(2)] for _ in range(2)]
        layers = [PagedLayer(keys, values, table, retriever, decoder) for keys, values in pools]
        for layer, filled in zip(layers, held.layers, strict=True):
            both = (torch.cat((part, part)) for part in (filled.keys, filled.values))
            layer.fill(*both, torch.tensor([36, 0], dtype=torch.int32))
        step.use(layers, 64)
        step.begin([int(ids[0, 36]), 0], [36, 0])
        assert step.run(6)[0].tolist() == expected.tolist()
        assert step.lengths.tolist() == [42, 0]
        assert layers[0].keys[0].isnan().all()
        try:
            step.run(23)
        except EngineFailed:
            continue
        raise AssertionError("tokens were written past the pages")


def check_document():
    """Documents read through the kernels: replies, and the pages that are told, are those of the torch reference."""
    import tiny_models as tiny

    from longleaf.engine.attention.attend import TorchAttend
    from longleaf.engine.attention.document import open_document
    from longleaf.engine.attention.executor import deviations
    from longleaf.engine.attention.plans import ReadingPlan
    from longleaf.engine.attention.policies.dense import Dense
    from longleaf.engine.attention.policies.page_mass import page_mass
    from longleaf.engine.attention.policies.quest import quest
    from longleaf.engine.attention.registry import techniques
    from longleaf.engine.attention.runner import Runner, shape_of
    from longleaf.engine.attention.selection import Budget
    from longleaf.engine.attention.watched import Watched
    from longleaf.engine.pages.host import HostTier
    from longleaf.engine.pages.store import PageStore

    tiny.COMMON |= {"head_dim": 16}
    budget, calls = Budget(tokens=64, sinks=16, recent=16), {"prefill": 0, "decode": 0}

    class Counted(TritonAttend):
        def prefill(self, *arguments):
            calls["prefill"] += 1
            return super().prefill(*arguments)

        def decode(self, *arguments):
            calls["decode"] += 1
            return super().decode(*arguments)

    def runner(summary, attend, architecture="llama", **store):
        model = tiny.model(architecture)
        return Runner(model, PageStore(shape_of(model, tiny.PAGE), **store), summary=summary, attend=attend, chunk=160)

    def agree(answering, architecture="llama", *, tiered=False):
        plan = ReadingPlan("plan", answering=answering)
        replies = []
        for attend in (TorchAttend(), Counted()):
            room = {"capacity": 10, "host": HostTier()} if tiered else {}
            reader = runner(plan.summary, attend, architecture, **room)
            document = open_document(reader, tiny.tokens(150), plan, window=512)
            replies.append(document.answers([tiny.tokens(9, seed=4), tiny.tokens(1, seed=6)], max_tokens=2))
            assert (reader.store.stats().evictions > 0) == tiered
        for torchs, ours in zip(*replies, strict=True):
            assert ours.tokens == torchs.tokens
            # Shares differ in their last digits, and pages of equal shares may change places.
            assert {(r.start, r.end, r.often) for r in ours.reads} == {(r.start, r.end, r.often) for r in torchs.reads}
            shares = [{read.start: read.score for read in reply.reads} for reply in (ours, torchs)]
            assert all(abs(shares[0][at] - shares[1][at]) < 1e-4 for at in shares[1])
            assert bool(ours.reads) == (answering != Dense())

    def prompts_agree(policy, first, more):
        """In two parts, of which the second begins within a block."""
        logits = []
        for attend in (TorchAttend(), Counted()):
            reader = runner(None, attend)
            sequence = reader.store.new()
            reader.prefill(sequence, tiny.tokens(first), policy)
            logits.append(reader.prefill(sequence, tiny.tokens(more, seed=7), policy, keep=more))
        close(logits[1], logits[0], torch.float32)

    for answering in (Watched(((1, 0), (1, 3), (2, 1))), quest(budget), page_mass(budget)):
        agree(answering)
    agree(quest(budget), tiered=True)
    agree(Dense(), "gemma3")
    assert calls["decode"] > 0
    prompts_agree(Dense(), 20, 130)
    for technique in techniques("prefill"):
        prompts_agree(technique.build(**tiny.small(technique)), 40, 25)
    assert calls["prefill"] > 0
    shape = shape_of(tiny.model("llama"), tiny.PAGE)
    errors = list(deviations(TritonAttend(), 4, shape, torch.device("cpu")))
    assert len(errors) == 3
    assert max(errors) < TOLERANCE[torch.float32]


def check_engine():
    """`TorchEngine` with the kernels says and tells what it does with torch."""
    import tempfile
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tiny_llama import build_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    from longleaf.engine import Message, Request, Sampling
    from longleaf.engine.attention.attend import TorchAttend
    from longleaf.engine.backends.torch import TorchEngine
    from longleaf.engine.contract import Done, Keeping

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    text = (
        "Read this. <text>\n" + "The heron ate a frog near the river, and the mill burned. " * 3 + "\n</text>\n\nAsk:"
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # A document that torch has kept is opened with the kernels, too. One beyond the window is torch's in any case.
        for plan, before, keeping in (
            ("dense", "", Keeping(Path(folder) / "kv")),
            ("dense", "It rained for days. " * 25, None),
        ):
            replies = []
            for attend in (TorchAttend(), TritonAttend()):
                engine = TorchEngine.open(Path(folder), dtype="float32", device="cpu", threads=1, attend=attend)
                opened = (Message("user", before + text),)
                document = engine.open_document(opened, plan=plan, budget=96, room=80, keeping=keeping)
                assert (document.plan == "infllm") == bool(before)
                requests = [
                    Request(words, (Message("user", f"{before}{text} {words}"),), Sampling(max_tokens=5))
                    for words in ("What burned?", "Who ate?")
                ]
                done = [event for event in document.generate(requests) if isinstance(event, Done)]
                replies.append([(one.text, {(r.start, r.end, round(r.score, 3)) for r in one.reads}) for one in done])
            assert replies[0] == replies[1]
            assert len(replies[0]) == 2
            assert all(reads for _, reads in replies[0])
            assert document.found == (document.tokens if keeping else 0)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    part = sys.argv[1]
    {
        "select": check_select,
        "decode": check_decode,
        "prefill": check_prefill,
        "host": check_host,
        "step": check_step,
        "document": check_document,
        "engine": check_engine,
    }[part]()
    sys.stdout.write(f"{part} agrees\n")
