"""A run that was stopped, by its reader or by SIGKILL, goes on and gives the answer it would have given."""

import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import scripts

from longleaf.agents.errors import RunEnded
from longleaf.agents.reader import Answer, Ask, Budget, QuoteFound, Reading, Wording
from longleaf.agents.registry import readers
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.memory.errors import RunMissing

BOOK = "The capital of Freedonia is Zubrow. It lies on the river Lutz.\n\n" + "Wheat grew on the farm. " * 40
QUESTION = "What is the capital of Freedonia?"
ROUNDS = 30
READERS = sorted(readers())


def engine(delay=0.0):
    return ScriptedEngine(
        lambda request: "The capital of Freedonia is Zubrow." if request.id != "answer" else "Zubrow on the Lutz",
        delay=delay,
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What each reader's rounds came to, by its name. They take most of a minute each: two run side by side."""
    script = Path(__file__).with_name("killed_reader.py")

    def rounds(reader):
        folder = str(tmp_path_factory.mktemp(reader))
        command = [sys.executable, str(script), folder, str(ROUNDS), "20261122", reader]
        return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)

    with ThreadPoolExecutor(2) as pool:
        yield {reader: pool.submit(rounds, reader) for reader in READERS}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize("reader", READERS)
def test_killed_at_random_points_a_run_goes_on_to_the_same_answer(killed, reader):
    done = killed[reader].result()

    assert done.returncode == 0, done.stderr
    outcomes = Counter(done.stdout.split())
    assert outcomes.total() == ROUNDS
    assert outcomes["went-on"] + outcomes["began"] >= ROUNDS // 2, outcomes  # most kills came while it read
    assert outcomes["went-on"] >= 2 or reader == "direct", outcomes  # which makes one call, and has no step before it


@pytest.mark.parametrize("kind", [Reading, QuoteFound, Wording])
def test_a_closed_iterator_leaves_an_interrupted_run_that_goes_on(desk, kind):
    desk.add(BOOK)
    expected = desk.with_engine(engine()).ask(QUESTION)

    events = desk.with_engine(engine(delay=0.005)).stream(QUESTION)
    for event in events:
        if isinstance(event, kind):
            break
    events.close()

    record = desk.deps.runs.list()[0]
    assert record.status == "interrupted"
    assert record.answer is None
    answer = desk.with_engine(engine()).resume(record.id[:8])
    assert (answer.text, answer.claims, answer.coverage) == (expected.text, expected.claims, expected.coverage)
    assert answer.run_id == record.id
    assert desk.deps.runs.get(record.id).status == "done"


def test_closing_stops_the_model(desk):
    """The call under way is not run to its end first, which may take minutes."""
    desk.add(BOOK)
    events = desk.with_engine(ScriptedEngine(lambda request: "word " * 60, delay=0.01)).stream(QUESTION)
    next(events)
    events.close()

    (record,) = desk.deps.runs.list()
    assert record.status == "interrupted"
    # The reply was not finished, and nothing is left running that could finish it.
    assert desk.deps.runs.steps(record.id) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("longleaf-run")]


def test_a_run_that_is_done_cannot_be_resumed(desk):
    desk.add(BOOK)
    answer = desk.with_engine(engine()).ask(QUESTION)
    with pytest.raises(RunEnded, match=f"longleaf runs show {answer.run_id[:12]}"):
        desk.resume(answer.run_id)
    with pytest.raises(RunMissing):
        desk.resume("nothing")


def test_what_was_done_is_not_done_again(desk):
    desk.add(BOOK)
    events = desk.with_engine(engine(delay=0.002)).stream(QUESTION)
    for event in events:
        if isinstance(event, Wording):
            break
    events.close()
    record = desk.deps.runs.list()[0]
    before = [step.node for step in desk.deps.runs.steps(record.id)]

    again = engine()
    answer = desk.with_engine(again).resume(record.id)

    assert isinstance(answer, Answer)
    assert set(before) == {"extract"}
    assert [request.id for request in again.requests] == ["answer"]


@pytest.mark.parametrize("saving", ["put", "put_writes"])
def test_a_run_goes_on_wherever_between_two_saves_it_was_cut(desk, monkeypatch, saving):
    """Every gap between a node's end, its writes and the checkpoint after them, one after the other."""
    desk.add(scripts.BOOK)
    ask = Ask(scripts.QUESTION, reader="memory", budget=Budget(part_tokens=120, memory_tokens=48))
    working = desk.with_engine(ScriptedEngine(scripts.memory))
    expected = working.ask(ask)
    versions = [item.text for item in desk.deps.versions.list(expected.run_id)]
    saved = getattr(desk.checkpointer, saving)

    for at in range(50):
        calls = iter(range(at))

        def save(*arguments, calls=calls, **options):
            if next(calls, None) is None:
                raise RuntimeError("cut here")
            return saved(*arguments, **options)

        monkeypatch.setattr(desk.checkpointer, saving, save)
        try:
            working.ask(ask)
        except RuntimeError as error:
            assert "cut here" in str(error)  # noqa: PT017 - the last round raises nothing
        else:
            break
        monkeypatch.setattr(desk.checkpointer, saving, saved)
        answer = working.resume(desk.deps.runs.list()[0].id)
        assert (answer.text, answer.claims, answer.coverage) == (expected.text, expected.claims, expected.coverage), at
        assert [item.text for item in desk.deps.versions.list(answer.run_id)] == versions, at
    assert at > 4
