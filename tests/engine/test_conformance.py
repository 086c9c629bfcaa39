"""What every backend must do. One test base, run over all of them."""

import pytest

from longleaf.engine import Engine, Message, ModelCard, Request, Sampling, Token, Usage, complete
from longleaf.engine.backends.openai import OpenAIEngine
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.contract import Done, Failed


@pytest.fixture(params=["torch", "torch-bfloat16", "scripted", "openai"])
def engine(request):
    kind, _, dtype = request.param.partition("-")
    if kind == "torch":
        from longleaf.engine.backends.torch import TorchEngine

        folder = request.getfixturevalue("tiny_model")
        opened = TorchEngine.open(folder, device="cpu", dtype=dtype or "float32", window=200)
    elif kind == "scripted":
        opened = ScriptedEngine(["All is well, and all will be well."], window=200)
    else:
        server = request.getfixturevalue("server")
        server.behave(reply="All is well, and all will be well.")
        opened = OpenAIEngine(server.base_url, "test", window=200)
    yield opened
    opened.close()


def ask(id_, text="How is it?", **sampling):
    sampling.setdefault("max_tokens", 12)
    return Request(id_, (Message("user", text),), Sampling(**sampling))


def test_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine.card, ModelCard)
    assert engine.card.window == 200


def test_one_end_per_request_and_tokens_make_the_text(engine):
    requests = [ask(str(n), text="word " * n) for n in range(1, 5)] + [ask("big", text="many words " * 300)]
    shown = {request.id: "" for request in requests}
    ends = {}
    for event in engine.generate(requests):
        assert event.request_id not in ends
        if isinstance(event, Token):
            assert event.text
            shown[event.request_id] += event.text
        else:
            ends[event.request_id] = event
    assert set(ends) == set(shown)
    assert isinstance(ends.pop("big"), Failed)
    for id_, done in ends.items():
        assert isinstance(done, Done)
        assert done.text == shown[id_]


def test_usage(engine):
    usage = complete(engine, ask("u", max_tokens=3)).usage
    assert usage.calls == 1
    assert usage.prompt_tokens > 0
    assert 0 < usage.generated_tokens <= 3
    assert 0 <= usage.cached_tokens <= usage.prompt_tokens
    assert (usage + usage).prompt_tokens == 2 * usage.prompt_tokens
    assert usage + Usage() == usage


def test_max_tokens(engine):
    assert complete(engine, ask("m", max_tokens=2)).stop_reason == "length"


def test_stop_string(engine):
    whole = complete(engine, ask("w")).text
    stop = whole[2:4]
    assert complete(engine, ask("s", stop=(stop,))).text == whole[: whole.find(stop)]


def test_closing_early_leaves_the_engine_usable(engine):
    events = engine.generate([ask("1"), ask("2")])
    next(events)
    events.close()
    assert complete(engine, ask("3")).text == complete(engine, ask("4")).text


def test_nothing_asked(engine):
    assert list(engine.generate([])) == []


def test_count(engine):
    assert engine.count("") == 0
    assert engine.count("one two three") > engine.count("one")


def test_close_twice(engine):
    engine.close()
    engine.close()
    (failed,) = engine.generate([ask("x")])
    assert isinstance(failed, Failed)
