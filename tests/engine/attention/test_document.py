"""Documents whose keys and values are kept: questions one after the other, at once, exactly, and beyond the window."""

from pathlib import Path

import pytest
import tiny_models as tiny
import torch

from longleaf.engine.attention.contract import Technique
from longleaf.engine.attention.document import open_document
from longleaf.engine.attention.eviction.keydiff import KeyDiff
from longleaf.engine.attention.eviction.snapkv import SnapKV
from longleaf.engine.attention.plans import ReadingPlan, plan_named
from longleaf.engine.attention.policies.infllm import InfLLM
from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.policies.reused import Reused
from longleaf.engine.attention.policies.squeezed import Squeezed
from longleaf.engine.attention.policies.tokenselect import TokenSelect
from longleaf.engine.attention.policies.voted import Voted
from longleaf.engine.attention.positions.packed import Packed
from longleaf.engine.attention.registry import TECHNIQUES, make
from longleaf.engine.attention.runner import Runner, shape_of
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.contract import DocumentKV
from longleaf.engine.errors import PagesFull, Stopped, WindowExceeded
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.store import PageStore

SMALL = Budget(tokens=64, sinks=16, recent=16)
PLANS = {
    "dense": ReadingPlan("dense"),
    "quest": ReadingPlan("quest", answering=quest(SMALL, dense_layers=0)),
    "tokenselect": ReadingPlan("tokenselect", answering=TokenSelect(SMALL, alike=0.5)),
    "reused": ReadingPlan("reused", answering=Reused(quest(SMALL, dense_layers=0), 3)),
    "squeezed": ReadingPlan("squeezed", answering=Squeezed(SMALL, dense_layers=0)),
    "infllm": ReadingPlan("infllm", *[InfLLM(Budget(96, 16, 32), block=32)] * 2, Packed(32)),
    "voted": ReadingPlan(
        "voted", InfLLM(Budget(96, 16, 32), block=32), Voted(((1, 1), (2, 3)), SMALL, SMALL, block=32), Packed(32)
    ),
}


def opened(plan, *, architecture="llama", length=150, window=512, capacity=None, **store):
    network = tiny.model(architecture)
    store = PageStore(shape_of(network, tiny.PAGE), capacity=capacity, **store)
    runner = Runner(network, store, summary=plan.summary, positions=plan.positions, chunk=32)
    return open_document(runner, tiny.tokens(length), plan, window=window), runner


def likeliest(architecture, ids, count):
    """What the model itself says greedily."""
    with torch.inference_mode():
        for _ in range(count):
            logits = tiny.model(architecture)(torch.tensor([ids])).logits[0, -1]
            ids = [*ids, int(logits.argmax())]
    return tuple(ids[-count:])


def test_a_dense_document_says_what_the_model_says():
    document, _ = opened(PLANS["dense"])
    question = tiny.tokens(9, seed=4)

    reply = document.answer(question, max_tokens=7)
    assert isinstance(document, DocumentKV)
    assert reply.tokens == likeliest("llama", tiny.tokens(150) + question, 7)
    assert reply.reads == ()
    assert (reply.usage.cached_tokens, reply.usage.prompt_tokens, reply.stop_reason) == (150, 159, "length")


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.name)
def test_questions_leave_the_document_as_it_is(plan):
    document, _ = opened(plan)
    first, second = tiny.tokens(9, seed=4), tiny.tokens(5, seed=5)

    before = document.answer(first, max_tokens=20)
    document.answer(second, max_tokens=20)
    again = document.answer(first, max_tokens=20)
    assert (again.tokens, again.reads) == (before.tokens, before.reads)
    assert document.length == 150
    document.close()
    document.close()
    with pytest.raises(ValueError, match="closed"):
        document.answer(first)


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.name)
def test_questions_at_once_are_answered_as_one_by_one(plan):
    document, _ = opened(plan)
    questions = [tiny.tokens(9, seed=4), tiny.tokens(14, seed=5), tiny.tokens(1, seed=6)]

    together = document.answers(questions, max_tokens=12)
    assert [reply.tokens for reply in together] == [document.answer(q, max_tokens=12).tokens for q in questions]


def test_a_stop_token_ends_a_reply_and_is_not_in_it():
    document, _ = opened(PLANS["dense"])
    question = tiny.tokens(9, seed=4)
    whole = document.answer(question, max_tokens=7).tokens
    stop = whole[3]

    for exact in (False, True):
        reply = document.answer(question, max_tokens=7, stop_tokens=[stop], exact=exact)
        assert reply.tokens == whole[: whole.index(stop)]
        assert reply.stop_reason == "end"


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("name", ["quest", "squeezed", "tokenselect"])
def test_exact_replies_are_those_of_dense_attention(architecture, name):
    document, _ = opened(PLANS[name], architecture=architecture)
    dense, _ = opened(PLANS["dense"], architecture=architecture)
    for seed in range(3):
        question = tiny.tokens(6, seed=seed)
        exact = document.answer(question, max_tokens=24, exact=True)
        assert exact.tokens == dense.answer(question, max_tokens=24).tokens
        assert exact.reads


def test_the_pages_read_are_told_with_their_share():
    document, _ = opened(PLANS["quest"])
    reads = document.answer(tiny.tokens(9, seed=4), max_tokens=8).reads

    assert reads == tuple(sorted(reads, key=lambda read: -read.score))
    assert all(read.start % tiny.PAGE == 0 and read.start < read.end <= 150 for read in reads)
    assert all(0 <= read.score <= 1.001 for read in reads)
    assert reads[0].score > 0
    assert all(0 < read.often <= 1.001 for read in reads)


def test_a_document_that_is_read_on_is_the_longer_document():
    document, _ = opened(PLANS["quest"], length=100)
    document.extend(tiny.tokens(150)[100:])
    whole, _ = opened(PLANS["quest"])
    question = tiny.tokens(9, seed=4)

    assert document.length == 150
    assert document.answer(question).tokens == whole.answer(question).tokens


def test_a_document_beyond_the_window_is_read_a_few_pages_at_a_time():
    document, _ = opened(PLANS["infllm"], length=700, window=256)
    reply = document.answer(tiny.tokens(9, seed=4), max_tokens=5)

    assert document.length == 700
    assert len(reply.tokens) == 5
    assert any(read.start > 16 and read.end < 600 for read in reply.reads)
    with pytest.raises(WindowExceeded, match="infllm"):
        opened(PLANS["quest"], length=700, window=256)
    with pytest.raises(WindowExceeded, match="ask for less"):
        opened(PLANS["quest"], length=250, window=256)[0].answer([1, 2, 3], max_tokens=8)


def test_pages_with_most_votes_are_read_by_question_and_reply():
    voted = Voted(((0, 0), (1, 1)), Budget(80, 16, 32))
    votes = torch.full((2, 20), -9.0)
    votes[0, [0, 3, 7]] = torch.tensor([-1.0, -4.0, -2.0])
    votes[1, [3, 7, 12, 18]] = torch.tensor([-1.0, -2.0, -1.5, 0.0])
    states = {0: {"votes": {0: votes[0]}}, 1: {"votes": {1: votes[1]}}, 2: {}}

    chosen = voted.after(states, tokens=18 * 16 + 5, page=16)
    # A sink, the two best between it and the end, and all from the 32nd last token on.
    assert (chosen.pages, chosen.since) == ((0, 3, 7), 16)
    assert voted.after({}, tokens=300, page=16) == voted.first


def test_a_vote_that_elects_all_pages_changes_nothing():
    whole = InfLLM(EVERYTHING, block=32)
    reading, question = PLANS["voted"].reading, tiny.tokens(40, seed=4)
    answering = Voted(((1, 1), (2, 3)), EVERYTHING, EVERYTHING, block=32)

    one, _ = opened(ReadingPlan("one", reading, answering, Packed(32)), length=300)
    other, _ = opened(ReadingPlan("other", whole, whole, Packed(32)), length=300)
    other._sequence, other._runner = one._sequence, one._runner  # the same keys and values
    replies = [document.answer(question, max_tokens=40).tokens for document in (one, other)]
    assert replies[0] == replies[1]


def test_what_was_elected_is_what_is_read():
    document, _ = opened(PLANS["voted"], length=400)
    questions = [tiny.tokens(9, seed=4), tiny.tokens(40, seed=5)]

    replies = document.answers(questions, max_tokens=5)
    assert [reply.tokens for reply in replies] == [document.answer(one, max_tokens=5).tokens for one in questions]
    for reply in replies:
        assert 1 <= len(reply.reads) <= SMALL.tokens // tiny.PAGE
        assert any(read.end < 380 for read in reply.reads)
    turn = document.begin(questions[0], room=5)
    said = []
    for _ in range(5):
        said.append(int(turn.step().argmax()))
        turn.accept(said[-1])
    assert (tuple(said), turn.reads()) == (replies[0].tokens, replies[0].reads)


def test_a_document_in_slower_memory_is_read_a_part_at_a_time():
    plan = PLANS["infllm"]
    exact, _ = opened(plan, length=400)
    tiered, runner = opened(plan, length=400, capacity=12, host=HostTier())
    question = tiny.tokens(9, seed=4)

    assert tiered.answer(question, max_tokens=6).tokens == exact.answer(question, max_tokens=6).tokens
    assert runner.store.stats().evictions > 0


def test_rows_that_put_out_each_others_pages_are_read_one_by_one():
    plan = PLANS["quest"]
    questions = [tiny.tokens(9, seed=4), tiny.tokens(14, seed=5), tiny.tokens(4, seed=6)]
    exact, _ = opened(plan, length=200)
    tiered, runner = opened(plan, length=200, capacity=16, host=HostTier())

    want = [reply.tokens for reply in exact.answers(questions, max_tokens=6)]
    assert [reply.tokens for reply in tiered.answers(questions, max_tokens=6)] == want
    assert runner.store.stats().evictions > 0


@pytest.mark.parametrize("eviction", [SnapKV(), KeyDiff()], ids=lambda eviction: eviction.name)
def test_what_is_evicted_is_gone_and_the_rest_says_as_much_as_it_can(eviction):
    document, _ = opened(PLANS["quest"])
    question = tiny.tokens(9, seed=4)
    whole = document.evicted(eviction, 150)
    half = document.evicted(eviction, 75)

    assert whole.answer(question).tokens == document.answer(question).tokens
    assert (half.length, document.length) == (75, 150)
    assert len(half.answer(question, max_tokens=5).tokens) == 5
    with pytest.raises(ValueError, match="sliding window"):
        opened(PLANS["dense"], architecture="gemma3")[0].evicted(eviction, 75)


def test_a_reading_that_is_stopped_or_finds_no_room_leaves_nothing():
    network = tiny.model("llama")
    store = PageStore(shape_of(network, tiny.PAGE), capacity=6)
    runner = Runner(network, store, chunk=32)
    asked = iter([False, False, True])
    with pytest.raises(Stopped, match="after 64 of 90"):
        open_document(runner, tiny.tokens(90), PLANS["dense"], window=512, stop=lambda: next(asked))
    with pytest.raises(PagesFull):
        open_document(runner, tiny.tokens(150), PLANS["dense"], window=512)

    assert open_document(runner, tiny.tokens(90), PLANS["dense"], window=512).length == 90


def test_plans_have_names():
    beyond = plan_named("infllm", 8192, heads=[(1, 2)])
    assert beyond.positions is not None
    for policy in (beyond.reading, beyond.answering):
        assert policy.budget.tokens + policy.block < 8192
    assert beyond.answering.heads == ((1, 2),)
    assert plan_named("infllm", 8192).answering == beyond.reading  # no head is known to find answers
    assert plan_named("quest", 8192, budget=256).answering.budget.tokens == 256
    with pytest.raises(ValueError, match="dense, quest"):
        plan_named("best", 8192)


def test_another_architecture_is_read_densely_and_says_so_once(caplog):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    network = GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    ).eval()
    plan = PLANS["quest"]
    replies = []
    for _ in range(2):
        runner = Runner(network, PageStore(shape_of(network, tiny.PAGE)), summary=plan.summary, chunk=32)
        document = open_document(runner, tiny.tokens(70), plan, window=512)
        replies.append(document.answer(tiny.tokens(4, seed=4), max_tokens=5))
    with torch.inference_mode():
        want = network.generate(
            torch.tensor([tiny.tokens(70) + tiny.tokens(4, seed=4)]), max_new_tokens=5, do_sample=False
        )[0, -5:]

    assert replies[0].tokens == replies[1].tokens == tuple(want.tolist())
    assert sum("does not go through pages" in record.message for record in caplog.records) == 1


def test_techniques_say_where_they_come_from():
    names = [technique.name for technique in TECHNIQUES]
    assert len(set(names)) == len(names)
    assert all(isinstance(t, Technique) and t.paper and t.cost for t in TECHNIQUES)
    with pytest.raises(ValueError, match="no technique"):
        make("none")


def test_the_documentation_lists_every_technique():
    page = Path(__file__).resolve().parents[3] / "docs" / "attention.md"
    listed = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]

    assert [f"| `{t.name}` | {t.axis} | {t.paper} |" for t in TECHNIQUES] == listed[-len(TECHNIQUES) :]
