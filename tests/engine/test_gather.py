"""`Gather`: what several threads ask at once is one batch, and each of them hears its own replies only."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from longleaf.engine.backends.scripted import Failures, ScriptedEngine
from longleaf.engine.contract import Done, Engine, Failed, Message, Request, Sampling, Token, complete
from longleaf.engine.errors import EngineFailed
from longleaf.engine.gather import Gather


def request(name, text="hello", tokens=64):
    return Request(name, (Message("user", text),), Sampling(max_tokens=tokens))


def parrot(request):
    return f"you said {request.messages[-1].content}"


class Counting(ScriptedEngine):
    """Keeps the ids of each batch, which batches run at once, and whether each was read to its end."""

    def __init__(self, script, **options):
        super().__init__(script, **options)
        self.batches = []
        self.ended = []
        self.threads = set()
        self.live = 0
        self.most = 0

    def generate(self, requests):
        self.batches.append([request.id for request in requests])
        self.threads.add(threading.current_thread().name)
        self.live += 1
        self.most = max(self.most, self.live)
        try:
            yield from super().generate(requests)
            self.ended.append(len(self.batches))
        finally:
            self.live -= 1


def at_once(count, work):
    """Run `work(number)` in as many threads that start together; their results, or what they raised."""
    ready = threading.Barrier(count)

    def begin(number):
        ready.wait()
        try:
            return work(number)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def settle(gather):
    """Wait until the batch under way is over: callers hear the end of their own replies before."""
    gather._worker.submit(lambda: None).result(20)


def test_it_is_an_engine_and_passes_on_what_its_engine_can():
    inner = ScriptedEngine(parrot, name="bird")
    inner.score_context = lambda question: "scores"
    gather = Gather(inner)

    assert isinstance(gather, Engine)
    assert gather.card is inner.card
    assert gather.count("three little words") == 3
    assert gather.score_context("?") == "scores"
    assert not hasattr(gather, "flies")
    assert not hasattr(object.__new__(Gather), "_engine")  # as while it is copied: no endless search
    assert complete(gather, request("a")).text == "you said hello"


def test_calls_that_were_announced_are_one_batch_and_each_hears_its_own():
    engine = Counting(parrot)
    gather = Gather(engine, patience=10)

    def ask(number):
        return list(gather.generate([request("same", f"word{number}"), request(f"own-{number}", "x")], together=6))

    heard = at_once(6, ask)

    assert [len(batch) for batch in engine.batches] == [12]
    for number, events in enumerate(heard):
        replies = {event.request_id: event.text for event in events if isinstance(event, Done)}
        assert replies == {"same": f"you said word{number}", f"own-{number}": "you said x"}
        tokens = "".join(e.text for e in events if isinstance(e, Token) and e.request_id == "same")
        assert tokens == f"you said word{number}"


def test_ids_that_look_like_another_callers_do_not_mix():
    gather = Gather(ScriptedEngine(parrot))
    names = ["1:x", "x", "0:1:x", "1:1:x"]

    heard = at_once(4, lambda number: list(gather.generate([request(names[number], f"w{number}")], together=4)))

    for number, events in enumerate(heard):
        assert {event.request_id for event in events} == {names[number]}
        assert events[-1].text == f"you said w{number}"


def test_an_announced_call_that_never_comes_is_not_waited_for_long():
    gather = Gather(ScriptedEngine(parrot))
    assert [type(event) for event in gather.generate([request("a")], together=50)][-1] is Done


def test_one_batch_runs_at_a_time_and_always_in_one_thread():
    engine = Counting(parrot, delay=0.001)
    gather = Gather(engine)

    for _ in range(3):
        at_once(5, lambda number: [complete(gather, request(f"{number}-{again}")) for again in range(4)])

    assert engine.most == 1
    assert sum(map(len, engine.batches)) == 60
    assert len(engine.threads) == 1


def test_no_requests_are_no_events_and_no_batch():
    engine = Counting(parrot)
    assert list(Gather(engine).generate([], together=3)) == []
    assert engine.batches == []


def test_a_caller_hears_the_end_of_its_own_replies_before_the_batch_ends():
    released = threading.Event()

    class Slow(ScriptedEngine):
        def generate(self, requests):
            events = defaultdict(list)
            for event in super().generate(requests):
                events["long" if event.request_id.endswith("long") else "short"].append(event)
            yield from events["short"]
            assert released.wait(20)
            yield from events["long"]

    gather = Gather(Slow(parrot))

    def ask(number):
        events = list(gather.generate([request("short" if number else "long")], together=2))
        if number:
            released.set()  # the other one's reply cannot end before this one's iterator did
        return events

    heard = at_once(2, ask)
    assert [events[-1].request_id for events in heard] == ["long", "short"]


def test_closing_one_caller_leaves_the_others_their_replies():
    engine = Counting(lambda request: "word " * 40, delay=0.001)
    gather = Gather(engine)

    def ask(number):
        events = gather.generate([request(f"r{number}")], together=3)
        if number == 0:
            with closing(events):
                return [next(events)]
        return list(events)

    heard = at_once(3, ask)

    assert [len(batch) for batch in engine.batches] == [3]
    assert len(heard[0]) == 1
    for events in heard[1:]:
        assert isinstance(events[-1], Done)
        assert events[-1].text.split() == ["word"] * 40


def test_the_batch_stops_when_nobody_listens_and_the_next_call_is_served():
    engine = Counting(lambda request: "word " * 10_000, delay=0.001)
    gather = Gather(engine)

    def leave(number):
        with closing(gather.generate([request(f"r{number}", tokens=10_000)], together=2)) as events:
            return next(events)

    assert all(isinstance(event, Token) for event in at_once(2, leave))
    assert complete(gather, request("next", tokens=3)).text.split() == ["word"] * 3
    settle(gather)
    assert engine.ended == [2]  # the first batch was left, the second read to its end


@pytest.mark.parametrize("when", ["at the call", "before the first event", "half-way"])
def test_an_exception_reaches_every_caller_and_the_next_call_is_served(when):
    class Breaking(ScriptedEngine):
        broken = True

        def generate(self, requests):
            if when == "at the call" and self.broken:
                raise ZeroDivisionError(when)
            return self.events(requests)

        def events(self, requests):
            if when == "before the first event" and self.broken:
                raise ZeroDivisionError(when)
            for event in super().generate(requests):
                yield event
                if self.broken:
                    raise ZeroDivisionError(when)

    engine = Breaking(lambda request: "one two three")
    gather = Gather(engine)

    raised = at_once(4, lambda number: list(gather.generate([request(f"r{number}")], together=4)))

    assert [type(error) for error in raised] == [ZeroDivisionError] * 4
    engine.broken = False
    assert complete(gather, request("again")).text == "one two three"


def test_a_request_that_fails_is_its_callers_alone():
    def reply(request):
        if request.id.endswith("bad"):
            raise EngineFailed("no", transient=True)
        return "yes"

    gather = Gather(ScriptedEngine(reply))
    heard = at_once(3, lambda number: list(gather.generate([request("bad" if number == 1 else "ok")], together=3)))

    assert [type(events[-1]) for events in heard] == [Done, Failed, Done]
    assert heard[1][-1].request_id == "bad"
    assert heard[1][-1].transient


def test_with_a_fifth_of_all_requests_failing_every_caller_hears_one_end_a_request():
    gather = Gather(ScriptedEngine(parrot, failures=Failures(0.2, seed=3)))

    def ask(number):
        return list(gather.generate([request(f"{number}-{part}") for part in range(5)], together=8))

    heard = at_once(8, ask)
    for number, events in enumerate(heard):
        ends = [event.request_id for event in events if not isinstance(event, Token)]
        assert sorted(ends) == [f"{number}-{part}" for part in range(5)]
    assert any(isinstance(event, Failed) for events in heard for event in events)


def test_closing_closes_the_engine_and_later_calls_say_so():
    gather = Gather(ScriptedEngine(parrot))
    assert complete(gather, request("a")).text
    gather.close()
    gather.close()
    (event,) = gather.generate([request("b")])
    assert isinstance(event, Failed)
    assert "closed" in str(event.error)


def test_no_thread_is_left_behind_by_a_gather_that_is_gone():
    gather = Gather(ScriptedEngine(parrot))
    assert complete(gather, request("a")).text
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("longleaf-gather")]
    assert mine
    thread = gather._worker._threads.copy().pop()  # which of them is this one's
    del gather
    thread.join(20)
    assert not thread.is_alive()
