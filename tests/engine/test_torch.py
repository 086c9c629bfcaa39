import dataclasses
import threading

import pytest
import torch

from longleaf.engine import Message, ModelNotFound, Request, Sampling, Token, WindowExceeded, complete
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.contract import Done, Failed
from longleaf.engine.errors import EngineFailed

LONG = "In the beginning there was a river, and near the river a heron. " * 2


def ask(id_, text, prefix="", **sampling):
    sampling.setdefault("max_tokens", 24)
    return Request(id_, (Message("user", text),), Sampling(**sampling), prefix)


def texts(engine, requests):
    return {event.request_id: event.text for event in engine.generate(requests) if isinstance(event, Done)}


@pytest.fixture
def open_tiny(tiny_model):
    def opened(**options):
        return TorchEngine.open(tiny_model, dtype="float32", device="cpu", **options)

    return opened


@pytest.fixture(scope="module")
def engine(tiny_model):
    return TorchEngine.open(tiny_model, dtype="float32", device="cpu", threads=1)


PROMPTS = [ask("a", "hi"), ask("b", LONG), ask("c", "here and there", max_tokens=5), ask("d", LONG + "x")]


def test_card(engine):
    assert (engine.card.name, engine.card.backend, engine.card.window) == ("tiny-llama", "torch", 256)
    assert engine.card.dtype == "float32"


def test_replies_are_those_of_transformers(engine, tiny_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_model),
        AutoTokenizer.from_pretrained(tiny_model),
    )
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": LONG}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    reply = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
    expected = tokenizer.decode(reply, skip_special_tokens=True).rstrip("\ufffd")
    assert complete(engine, ask("x", LONG)).text == expected


def test_batch_equals_single(open_tiny):
    single = {request.id: complete(open_tiny(), request).text for request in PROMPTS}
    assert texts(open_tiny(), PROMPTS) == single


@pytest.mark.parametrize("limits", [{"rows": 2}, {"batch_tokens": 200}, {"rows": 1}])
def test_batch_limits_change_nothing(open_tiny, limits):
    assert texts(open_tiny(**limits), PROMPTS) == texts(open_tiny(), PROMPTS)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunked_prefill_equals_whole(open_tiny, chunk):
    whole = complete(open_tiny(chunk=512), ask("w", LONG)).text
    assert complete(open_tiny(chunk=chunk), ask("w", LONG)).text == whole


def test_shared_prefix_is_reused_and_changes_nothing(open_tiny):
    fresh = [complete(open_tiny(chunk=16), ask("f", LONG + end)).text for end in ("one", "two")]
    engine = open_tiny(chunk=16)
    replies = [complete(engine, ask("k", LONG + end)) for end in ("one", "two", "one")]
    assert [reply.text for reply in replies] == [*fresh, fresh[0]]
    assert replies[0].usage.cached_tokens == 0
    assert replies[1].usage.cached_tokens >= len(LONG) // 2
    assert replies[1].usage.cached_tokens % 16 == 0


def test_reuse_does_not_spoil_what_is_kept(open_tiny):
    engine = open_tiny(chunk=16)
    first = complete(engine, ask("k", LONG)).text
    list(engine.generate([ask(str(n), LONG + "and more " * n) for n in range(4)]))
    assert complete(engine, ask("k", LONG)).text == first


def test_kept_tokens_are_bounded(open_tiny):
    engine = open_tiny(chunk=16, kept_tokens=200)
    for number in range(6):
        complete(engine, ask("k", f"{number} {LONG}", max_tokens=1))
    assert 0 < engine._prefixes.tokens <= 200


def test_stop_string_across_tokens(engine):
    whole = complete(engine, ask("w", LONG, max_tokens=40)).text
    stop = whole[9:14]
    events = list(engine.generate([ask("s", LONG, max_tokens=40, stop=(stop,))]))
    done = events[-1]
    assert done.text == whole[: whole.find(stop)]
    assert done.stop_reason == "stop"
    assert "".join(event.text for event in events if isinstance(event, Token)) == done.text


def test_seed_repeats_alone_and_in_a_batch(engine):
    request = ask("s", LONG, temperature=1.0, top_p=0.9, seed=5)
    first = complete(engine, request).text
    assert complete(engine, request).text == first
    assert texts(engine, [*PROMPTS, request])["s"] == first
    others = {complete(engine, dataclasses.replace(request, sampling=Sampling(24, 1.0, seed=n))).text for n in range(4)}
    assert len(others) > 1


def test_tiny_top_p_is_greedy(engine):
    greedy = complete(engine, ask("g", LONG)).text
    assert complete(engine, ask("g", LONG, temperature=1.0, top_p=1e-9, seed=1)).text == greedy


def test_window(open_tiny):
    engine = open_tiny(window=100)
    failed, done = sorted(
        (e for e in engine.generate([ask("big", LONG * 3), ask("ok", "hi", max_tokens=1000)]) if type(e) is not Token),
        key=lambda event: event.request_id,
    )
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, WindowExceeded)
    assert "100" in str(failed.error)
    assert done.usage.prompt_tokens + done.usage.generated_tokens <= 100


def test_window_cannot_be_larger_than_the_model(open_tiny, caplog):
    assert open_tiny(window=100_000).card.window == 256
    assert "256" in caplog.text


def test_closing_the_iterator_stops(open_tiny):
    engine = open_tiny()
    steps = []
    original = engine._step
    engine._step = lambda batch: steps.append(1) or original(batch)
    events = engine.generate([ask("c", LONG, max_tokens=100)])
    for _ in range(3):
        next(events)
    events.close()
    done_steps = len(steps)
    assert done_steps < 100
    assert complete(engine, ask("c", "hi")).text


def test_no_tokens_asked(engine):
    done = complete(engine, ask("z", "hi", max_tokens=0))
    assert (done.text, done.stop_reason, done.usage.generated_tokens) == ("", "length", 0)


def test_prefix_is_not_repeated(engine, tokenizer):
    done = complete(engine, ask("p", "hi", prefix="The heron"))
    assert not done.text.startswith("The heron")
    assert done.usage.prompt_tokens == complete(engine, ask("p", "hi")).usage.prompt_tokens + engine.count("The heron")


def test_two_threads_share_an_engine(engine):
    expected = texts(engine, PROMPTS)
    results = [{}, {}]

    def work(index):
        results[index] = texts(engine, PROMPTS)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected, expected]


@pytest.mark.parametrize(
    "full",
    [
        torch.OutOfMemoryError("full"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Expected mha_graph.execute(handle, variant_pack, workspace_ptr.get()).is_good() to be true"),
    ],
)
def test_out_of_memory_halves_the_batch(open_tiny, monkeypatch, full):
    """A GPU that other processes fill makes cuBLAS and cuDNN fail before PyTorch does."""
    expected = texts(open_tiny(), PROMPTS)
    engine = open_tiny()
    original = engine._step
    sizes = []

    def step(batch):
        sizes.append(len(batch.rows))
        if len(batch.rows) > 1 and len(sizes) > 3:
            raise full
        return original(batch)

    monkeypatch.setattr(engine, "_step", step)
    assert texts(engine, PROMPTS) == expected
    assert {4, 2, 1} <= set(sizes)


def test_an_error_that_is_not_of_memory_is_raised(open_tiny, monkeypatch):
    engine = open_tiny()

    def broken(batch):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(engine, "_step", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        list(engine.generate([ask("o", "hi")]))


def test_out_of_memory_with_one_request_fails_it(open_tiny, monkeypatch):
    engine = open_tiny()

    def full(batch):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(engine, "_step", full)
    failed = list(engine.generate([ask("o", "hi")]))[-1]
    assert isinstance(failed, Failed)
    assert "memory" in str(failed.error)


def test_the_engine_ends_a_reply_that_runs_in_circles(open_tiny, monkeypatch):
    engine = open_tiny()
    word = engine._tokenizer("a", add_special_tokens=False).input_ids[-1]
    monkeypatch.setattr(engine, "_step", lambda batch: [word] * len(batch.rows))
    done = list(engine.generate([ask("x", "hi", max_tokens=200)]))[-1]
    assert isinstance(done, Done)
    assert done.stop_reason == "loop"
    assert done.usage.generated_tokens < 40


def test_closed_engine_fails_requests(open_tiny):
    engine = open_tiny()
    engine.close()
    engine.close()
    (failed,) = engine.generate([ask("x", "hi")])
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, EngineFailed)


def test_no_model_there(tmp_path):
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        TorchEngine.open(tmp_path)


def test_no_gpu_there(tiny_model):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineFailed, match="cpu"):
        TorchEngine.open(tiny_model, device="cuda")
