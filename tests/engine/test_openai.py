import logging
import sys
import time

import pytest

from longleaf.engine import EngineFailed, Message, MissingExtra, Request, Sampling, WindowExceeded, complete
from longleaf.engine.backends.openai import OpenAIEngine
from longleaf.engine.contract import Done, Failed, Token

KEY = "sk-very-secret"


def ask(id_="a", text="hi", prefix="", **sampling):
    return Request(id_, (Message("user", text),), Sampling(**sampling), prefix)


@pytest.fixture
def engine(server):
    server.behave()
    engine = OpenAIEngine(server.base_url, "test", KEY, backoff=0.01, retries=2, timeout=5)
    yield engine
    engine.close()


def test_streams_with_usage(engine, server):
    events = list(engine.generate([ask()]))
    assert [event.text for event in events if isinstance(event, Token)] == ["All", " is", " well."]
    usage = events[-1].usage
    assert (usage.prompt_tokens, usage.generated_tokens, usage.cached_tokens) == (11, 3, 5)
    assert server.received()["requests"][0]["key"] == f"Bearer {KEY}"


def test_usage_is_estimated_where_the_server_gives_none(engine, server):
    server.behave(usage=False)
    usage = complete(engine, ask()).usage
    assert usage.prompt_tokens > 0
    assert usage.generated_tokens > 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_again(engine, server, status):
    server.behave(fail=[status, status])
    assert complete(engine, ask()).text == "All is well."
    assert len(server.received()["requests"]) == 3


def test_gives_up_after_the_retries(engine, server):
    server.behave(fail=[500] * 3)
    (failed,) = engine.generate([ask()])
    assert isinstance(failed, Failed)
    assert failed.transient
    assert "3 tries" in str(failed.error)


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_other_refusals_are_not_tried_again(engine, server, status):
    server.behave(fail=[status])
    (failed,) = engine.generate([ask()])
    assert isinstance(failed, Failed)
    assert not failed.transient
    assert len(server.received()["requests"]) == 1


def test_key_is_in_no_error_and_no_log(engine, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.behave(fail=[401])
    (failed,) = engine.generate([ask()])
    assert "***" in str(failed.error)
    assert KEY not in str(failed.error) + repr(failed.error.__cause__) + caplog.text


def test_a_hanging_server_times_out(server):
    server.behave(hang=3)
    engine = OpenAIEngine(server.base_url, "test", timeout=0.2, retries=0)
    (failed,) = engine.generate([ask()])
    assert failed.transient
    assert "in time" in str(failed.error)


def test_no_server():
    engine = OpenAIEngine("http://user:word@127.0.0.1:9/v1", "test", retries=0)
    (failed,) = engine.generate([ask()])
    assert failed.transient
    assert "127.0.0.1:9" in str(failed.error)
    assert "word" not in str(failed.error)


def test_a_reply_that_broke_off_is_not_begun_again(engine, server):
    server.behave(break_after=2)
    events = list(engine.generate([ask()]))
    assert [type(event) for event in events] == [Token, Token, Failed]
    assert events[-1].transient
    assert len(server.received()["requests"]) == 1


def test_prefix_is_continued(engine, server):
    assert complete(engine, ask(prefix="All")).text == "All is well."  # said by the server after the prefix
    body = server.received()["requests"][0]["body"]
    assert body["messages"][-1] == {"role": "assistant", "content": "All"}
    assert body["continue_final_message"] is True


def test_prefix_where_the_server_cannot_continue(engine, server):
    server.behave(refuse=["continue_final_message"])
    assert complete(engine, ask(prefix="All is")).text == " well."
    assert complete(engine, ask(prefix="None")).text == "All is well."
    assert len(server.received()["requests"]) == 3


def test_arguments_a_server_refuses_are_dropped(engine, server):
    server.behave(refuse=["stream_options", "max_tokens"])
    assert complete(engine, ask()).text == "All is well."
    assert "max_completion_tokens" in server.received()["requests"][-1]["body"]


def test_more_stop_strings_than_servers_take(engine, server):
    done = complete(engine, ask(stop=("1", "2", "3", "4", "s w")))
    assert (done.text, done.stop_reason) == ("All i", "stop")
    assert len(server.received()["requests"][0]["body"]["stop"]) == 4


def test_at_most_so_many_at_once(server):
    server.behave(hang=0.05)
    engine = OpenAIEngine(server.base_url, "test", concurrency=3)
    events = list(engine.generate([ask(str(n)) for n in range(9)]))
    assert sum(isinstance(event, Done) for event in events) == 9
    assert 1 < server.received()["most_running"] <= 3


def test_closing_the_iterator_starts_nothing_more(server):
    server.behave(delay=0.02)
    engine = OpenAIEngine(server.base_url, "test", concurrency=1)
    events = engine.generate([ask(str(n)) for n in range(20)])
    next(events)
    events.close()
    time.sleep(0.3)
    assert len(server.received()["requests"]) <= 2


def test_window(engine, server):
    small = OpenAIEngine(server.base_url, "test", window=50)
    with pytest.raises(WindowExceeded, match="50"):
        complete(small, ask(text="word " * 60))
    complete(small, ask(max_tokens=1000))
    assert server.received()["requests"][-1]["body"]["max_tokens"] < 50
    assert engine.card.window == 8192


def test_closed_engine_fails_requests(engine):
    engine.close()
    (failed,) = engine.generate([ask()])
    assert isinstance(failed.error, EngineFailed)


def test_count_needs_no_network(engine):
    assert engine.count("Hello world") == 2
    assert engine.count("<|endoftext|>") > 1


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtra, match=r"longleaf\[openai\]"):
        OpenAIEngine("http://127.0.0.1:9/v1", "test")
