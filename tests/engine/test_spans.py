"""Replies chosen among the likeliest spans, by tiny random models."""

import math
import re
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import build_architecture
from written import WRITTEN

from longleaf.engine import EngineFailed, Grammar, Message, Request, Sampling, Token, complete, spans
from longleaf.engine.backends.torch import Limits, TorchEngine
from longleaf.engine.contract import Done, Failed, ModelCard
from longleaf.engine.grammar import Grammars, Matcher
from longleaf.engine.growing_cache import cache_name, new_cache
from longleaf.engine.prompt import PromptForm
from longleaf.engine.spans import Candidate, SpanTree, choose, takes_trees, word_f1

TEXT = "The heron (a grey one) stood near the river's edge.\n\nIt did not move; naïve fish came, 日本 too."
NONE = "Not there."


def ask(id_="a", among=8, text=TEXT, question="How is it?", margin=0.0, **sampling):
    grammar = Grammar.span(text, (NONE, "yes"), margin, among)
    sampling.setdefault("max_tokens", 24)
    return Request(id_, (Message("user", question),), Sampling(grammar=grammar, **sampling))


@pytest.fixture(scope="module")
def engine(tiny_model):
    return TorchEngine.open(tiny_model, dtype="float32", device="cpu", threads=1)


def replies(engine, requests):
    return {event.request_id: event for event in engine.generate(requests) if isinstance(event, Done)}


@torch.inference_mode()
def searched(model, tokenizer, prompt, grammar, *, width, limit, text_of=None):
    """The finished tree after a prompt."""
    cache = new_cache(model.config.num_hidden_layers)
    logits = model(input_ids=torch.tensor([prompt]), use_cache=True, **{cache_name(model): cache}).logits[:, -1]
    ends = [tokenizer.eos_token_id]
    matcher = Grammars(tokenizer, ends).matcher(grammar)
    tree = SpanTree(matcher, cache, width=width, limit=limit, ends=ends, text_of=text_of or tokenizer.decode)
    steps = 0
    while True:
        tree.extend(logits)
        if tree.finished:
            return tree.candidates(), steps
        logits = model(**tree.inputs(model), use_cache=True).logits[0]
        steps += 1


@torch.inference_mode()
def log_probability(model, tokenizer, prompt, tokens, grammar):
    """Of `tokens` after `prompt` by one plain forward pass, among what the grammar allows."""
    matcher = Grammars(tokenizer, [tokenizer.eos_token_id]).matcher(grammar)
    logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 :]
    total = 0.0
    for row, token in zip(logits, tokens, strict=False):
        matcher.mask(row)
        total += float(torch.log_softmax(row, -1)[token])
        matcher.accept(token)
    return total


@pytest.mark.parametrize("name", ["Llama", "Qwen3"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_tree_computes_what_plain_passes_do(tokenizer, name, attention):
    model = build_architecture(name, len(tokenizer), 2)
    model.set_attn_implementation(attention)
    assert takes_trees(model)
    prompt = tokenizer("Where did the heron stand?")["input_ids"]
    grammar = Grammar.span(TEXT, (NONE, "yes"))
    found, steps = searched(model, tokenizer, prompt, grammar, width=5, limit=20, text_of=str)  # told apart by tokens
    assert steps > 1
    assert 1 < len(found) <= 5
    for candidate in found:
        expected = log_probability(model, tokenizer, prompt, candidate.tokens, grammar)
        assert candidate.log_probability == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def exhaustive(monkeypatch):
    """No beginning is given up for being unlikely."""
    monkeypatch.setattr(spans, "LEAST", 1e-12)


def test_a_wide_tree_finds_everything_and_adds_up_tokenizations(engine, tokenizer, exhaustive):
    """The word "here" has three tokenizations, and with "he" all is found: the probabilities add up to 1."""
    prompt = tokenizer("here")["input_ids"]
    grammar = Grammar.span("here", ("he",))
    found, _ = searched(engine._model, tokenizer, prompt, grammar, width=20, limit=9)
    assert {candidate.text for candidate in found} == {"here", "he"}
    assert sum(math.exp(candidate.log_probability) for candidate in found) == pytest.approx(1, abs=1e-4)
    here = next(candidate for candidate in found if candidate.text == "here")
    alone = log_probability(engine._model, tokenizer, prompt, here.tokens, grammar)
    assert alone < here.log_probability


def test_a_narrow_tree_finds_the_likeliest_of_a_wide_one(engine, tokenizer, exhaustive):
    options = ("a b", "a", "b c", "heron", "in", "re")
    prompt = tokenizer("Which one?")["input_ids"]
    grammar = Grammar.choice(options)
    found, _ = searched(engine._model, tokenizer, prompt, grammar, width=64, limit=9)
    narrow, _ = searched(engine._model, tokenizer, prompt, grammar, width=6, limit=9)
    assert {candidate.text for candidate in found} == set(options)
    assert narrow[0].text == found[0].text
    assert narrow[0].log_probability <= found[0].log_probability + 1e-4


def test_only_replies_of_small_weight_are_given_up(engine, tokenizer, monkeypatch):
    grammar = Grammar.span(TEXT, (NONE,))
    for number in range(6):
        prompt = tokenizer(f"Which one? {number}")["input_ids"]
        options = {"width": 12, "limit": 12, "text_of": str}
        found, steps = searched(engine._model, tokenizer, prompt, grammar, **options)
        with monkeypatch.context() as patch:
            patch.setattr(spans, "LEAST", 1e-12)
            all_found, all_steps = searched(engine._model, tokenizer, prompt, grammar, **options)
        least = all_found[0].log_probability + math.log(spans.LEAST)
        assert steps <= all_steps
        assert {one.tokens for one in all_found if one.log_probability > least} <= {one.tokens for one in found}


def candidates(**chances):
    return [Candidate(text.replace("_", " "), (place,), math.log(p)) for place, (text, p) in enumerate(chances.items())]


def test_overlapping_spans_elect_the_middle_one():
    overlapping = candidates(
        in_the_White_House=0.25, White_House=0.2, the_White_House=0.22, Washington=0.3, Washington_D_C=0.03
    )
    assert choose(overlapping).text == "the White House"


def test_without_overlap_the_likeliest_is_chosen():
    assert choose(candidates(one=0.2, two=0.5, three=0.3)).text == "two"


def test_a_tie_goes_to_the_likelier():
    assert choose(candidates(b_A=0.3, A_b=0.4)).text == "A b"
    assert choose(candidates(A_b=0.4, b_A=0.3)).text == "A b"


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("the white house", "the white house", 1), ("a b", "b c", 0.5), ("a a", "a", 2 / 3), ("a", "", 0), ("", "", 1)],
)
def test_word_f1(left, right, expected):
    assert word_f1(Counter(left.split()), Counter(right.split())) == pytest.approx(expected)


def test_spans_without_words_can_be_chosen():
    assert choose([Candidate("–", (1,), -0.1), Candidate("-- .", (2,), -3.0)]).text == "–"


@settings(max_examples=25, deadline=None)
@given(
    st.text(WRITTEN, min_size=1, max_size=30).filter(str.strip),
    st.integers(2, 9),
    st.integers(0, 99),
)
def test_the_reply_is_a_span_or_another_allowed_reply(engine, text, among, number):
    done = complete(engine, ask(among=among, text=text, question=f"{number}", max_tokens=80))
    assert done.text == done.text.strip() != ""
    assert done.text in text or done.text in (NONE, "yes")


def test_events_and_usage_are_those_of_the_reply(engine):
    events = list(engine.generate([ask(max_tokens=100)]))
    done = events[-1]
    assert done.text in TEXT
    assert "".join(event.text for event in events if isinstance(event, Token)) == done.text
    assert done.stop_reason == "end"
    assert 0 < done.usage.generated_tokens <= len(done.text.encode()) + 1
    assert done.usage.seconds > 0


def test_among_changes_replies_and_one_of_them_does_not(engine, monkeypatch):
    """Greedy requests and sampled ones grow no tree."""
    questions = [f"{number}" for number in range(12)]
    searched = [complete(engine, ask(question=question)).text for question in questions]
    monkeypatch.setattr(SpanTree, "extend", lambda *_: pytest.fail("a tree was grown"))
    greedy = [complete(engine, ask(among=1, question=question)).text for question in questions]
    assert greedy != searched
    assert (
        complete(engine, ask(temperature=1.0, seed=3)).text
        == complete(engine, ask(among=1, temperature=1.0, seed=3)).text
    )


def test_the_first_other_reply_is_decided_by_the_margin_alone(engine):
    """However much is to be weighed: what `among` 1 denies is denied, and nothing else."""
    denied = []
    for number in range(30):
        for margin in (-6.0, -2.0, 0.0):
            greedy, weighed = (
                complete(engine, ask(among=among, question=f"{number}", margin=margin, max_tokens=60)).text
                for among in (1, 8)
            )
            assert (greedy == NONE) == (weighed == NONE)
            denied.append(greedy == NONE)
    assert 0 < sum(denied) < len(denied)


def test_a_batch_gives_what_single_requests_give(tiny_model):
    def opened():
        return TorchEngine.open(tiny_model, dtype="float32", device="cpu")

    requests = [ask(f"{number}", among=1 + number % 3 * 3, question=f"{number}" * 3) for number in range(7)]
    requests.append(Request("free", (Message("user", "hi"),), Sampling(max_tokens=12)))
    alone = {request.id: complete(opened(), request).text for request in requests}
    assert {id_: done.text for id_, done in replies(opened(), requests).items()} == alone


def test_kept_prefixes_are_not_harmed(tiny_model):
    engine = TorchEngine.open(tiny_model, dtype="float32", device="cpu", chunk=16)
    free = Request("free", (Message("user", "How is it? " * 8 + "now"),), Sampling(max_tokens=12))
    asked = ask(question="How is it? " * 8)
    first = complete(engine, free).text, complete(engine, asked).text
    again = complete(engine, free), complete(engine, asked)
    assert (again[0].text, again[1].text) == first
    assert again[1].usage.cached_tokens >= 64


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_token_limit_cuts(engine, most):
    done = complete(engine, ask(max_tokens=most))
    assert done.usage.generated_tokens <= most
    assert done.text in TEXT
    assert done.stop_reason in ("length", "end")


def test_the_window_cuts(tiny_model):
    engine = TorchEngine.open(tiny_model, dtype="float32", device="cpu", window=70)
    done = complete(engine, ask(max_tokens=1000))
    assert done.usage.prompt_tokens + done.usage.generated_tokens <= 70


def test_a_stop_string_ends_the_reply(engine):
    reasons = set()
    for number in range(20):
        done = complete(engine, ask(question=f"{number}", stop=("ron", "y")))
        reasons.add(done.stop_reason)
        assert not re.search("ron|y", done.text)
        assert done.stop_reason != "stop" or f"{done.text}ron" in TEXT or f"{done.text}y" in f"{TEXT} yes"
    assert "stop" in reasons


def test_closing_the_iterator_leaves_the_rest_unsearched(tiny_model, monkeypatch):
    engine = TorchEngine.open(tiny_model, dtype="float32", device="cpu")
    expected = complete(engine, ask()).text
    rows = []
    extend = engine._extend

    def counted(row, tree, logits):
        rows.append(row.request.id)
        return extend(row, tree, logits)

    monkeypatch.setattr(engine, "_extend", counted)
    events = engine.generate([ask("1"), ask("2")])
    next(events)
    events.close()
    assert set(rows) == {"1"}
    assert complete(engine, ask()).text == expected


def test_an_engine_closed_between_steps_fails_the_request(tiny_model, monkeypatch):
    engine = TorchEngine.open(tiny_model, dtype="float32", device="cpu")
    extend = engine._extend

    def closing(row, tree, logits):
        logits = extend(row, tree, logits)
        engine.close()
        return logits

    monkeypatch.setattr(engine, "_extend", closing)
    (failed,) = engine.generate([ask()])
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, EngineFailed)


def test_out_of_memory_halves_the_batch_then_fails_a_request_alone(tiny_model, monkeypatch):
    engine = TorchEngine.open(tiny_model, dtype="float32", device="cpu")
    requests = [ask("1"), ask("2", question="And now?"), ask("3", question="Where?")]
    expected = {id_: done.text for id_, done in replies(engine, requests).items()}
    extend, calls = engine._extend, []

    def full_once(row, tree, logits):
        calls.append(row.request.id)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("full")
        return extend(row, tree, logits)

    monkeypatch.setattr(engine, "_extend", full_once)
    assert {id_: done.text for id_, done in replies(engine, requests).items()} == expected

    def full(row, tree, logits):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(engine, "_extend", full)
    (failed,) = engine.generate([ask()])
    assert isinstance(failed, Failed)
    assert "memory" in str(failed.error)


def test_a_grammar_that_cannot_be_followed_fails_its_request_alone(engine, monkeypatch):
    accept, whole = Matcher.accept, complete(engine, ask("2", among=1)).text

    def failing(self, token):
        if failing.armed:
            failing.armed = False
            raise EngineFailed("too complex")
        return accept(self, token)

    failing.armed = True
    monkeypatch.setattr(Matcher, "accept", failing)
    failed, *_, done = engine.generate([ask("1"), ask("2", among=1)])
    assert isinstance(failed, Failed)
    assert (failed.request_id, str(failed.error)) == ("1", "too complex")
    assert (done.request_id, done.text) == ("2", whole)


@pytest.mark.parametrize("name", ["Gemma3", "Mistral"])
def test_layers_with_a_sliding_window_draw_word_by_word(tokenizer, name, monkeypatch):
    model = build_architecture(name, len(tokenizer), 2, sliding_window=24)
    assert not takes_trees(model)
    card = ModelCard("tiny", "torch", 400, PromptForm(tokenizer).fingerprint(), "float32")
    engine = TorchEngine(model, tokenizer, card, Limits(chunk=32, rows=4, batch_tokens=2000, kept_tokens=400))
    monkeypatch.setattr(SpanTree, "extend", lambda *_: pytest.fail("a tree was grown"))
    done = complete(engine, ask())
    assert done.text in TEXT or done.text in (NONE, "yes")
