import json

import pytest

from longleaf.engine import EngineFailed, Message, Request, Sampling, WindowExceeded, complete
from longleaf.engine.backends.scripted import Failures, ScriptedEngine
from longleaf.engine.contract import Done, Failed


def ask(id_="a", text="hi there", **sampling):
    return Request(id_, (Message("user", text),), Sampling(**sampling))


def test_list_is_used_over_again():
    engine = ScriptedEngine(["one", "two"])
    assert [complete(engine, ask()).text for _ in range(3)] == ["one", "two", "one"]
    assert len(engine.requests) == 3


def test_list_ends_where_it_may_not_be_used_again():
    engine = ScriptedEngine(["one"], cycle=False)
    complete(engine, ask())
    with pytest.raises(EngineFailed, match="ended after 1"):
        complete(engine, ask())


def test_echo_returns_the_prompt():
    request = Request("e", (Message("system", "s"), Message("user", "ü")), prefix="p")
    reply = json.loads(complete(ScriptedEngine.echo(), request).text)
    assert reply == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "ü"}],
        "prefix": "p",
    }


def test_function_sees_the_request():
    engine = ScriptedEngine(lambda request: request.messages[-1].content.upper())
    assert complete(engine, ask(text="abc")).text == "ABC"


def test_limits_and_usage():
    done = complete(ScriptedEngine(["one two three"]), ask(max_tokens=2))
    assert (done.text, done.stop_reason) == ("one two", "length")
    assert (done.usage.prompt_tokens, done.usage.generated_tokens, done.usage.calls) == (2, 2, 1)


def test_window():
    with pytest.raises(WindowExceeded, match="3 tokens"):
        complete(ScriptedEngine(["x"], window=3), ask(text="a b c"))


def test_failures_repeat_with_their_seed():
    def outcome(seed):
        engine = ScriptedEngine(["x"], failures=Failures(0.5, seed))
        events = engine.generate([ask(str(n)) for n in range(30)])
        return {event.request_id: event.transient for event in events if isinstance(event, Failed)}

    assert outcome(1) == outcome(1) != outcome(2)
    assert all(outcome(1).values())


def test_replies_of_a_batch_take_turns():
    engine = ScriptedEngine(["a b", "c d"])
    events = [event for event in engine.generate([ask("1"), ask("2")]) if not isinstance(event, Done)]
    assert [event.request_id for event in events] == ["1", "2", "1", "2"]


def test_specs():
    assert complete(ScriptedEngine.from_spec("scripted:Yes: it is."), ask()).text == "Yes: it is."
    assert "hi there" in complete(ScriptedEngine.from_spec("scripted:echo"), ask()).text
    with pytest.raises(EngineFailed, match="scripted:echo"):
        ScriptedEngine.from_spec("scripted")
