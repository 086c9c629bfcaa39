"""Every version of a run's memory is kept, and a step that runs again writes its version again."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from longleaf.memory.records import MemoryLine, MemoryVersionRecord, RunRecord, SourceSpan
from longleaf.memory.runs import Runs
from longleaf.memory.versions import Versions


def version(run_id, sequence, text="The king was crowned in 1887."):
    lines = (
        MemoryLine(text, (SourceSpan("d" * 64, 3, 40), SourceSpan("d" * 64, 90, 99)), "supported"),
        MemoryLine("He had a \0 cat.", (), "unsupported"),
    )
    return MemoryVersionRecord(
        run_id, sequence, "read", ("a:000001",), text, 9, lines, (text,), ("old",), datetime.now(UTC)
    )


@pytest.fixture
def run(database):
    record = RunRecord(
        "r1", "Who?", "memory", (), {}, "0" * 64, {}, "scripted", "running", None, None, datetime.now(UTC), None
    )
    Runs(database).start(record)
    return record


@pytest.fixture
def versions(database):
    return Versions(database)


def test_a_version_comes_back_as_it_was_put(versions, run):
    first = version(run.id, 1)
    versions.put(first)
    got = versions.get(run.id, 1)
    assert replace(got, lines=first.lines) == first
    assert (got.lines[0], got.lines[1].spans) == (first.lines[0], ())
    assert versions.get(run.id, 2) is None
    assert versions.latest("nobody") is None


def test_versions_are_listed_in_order_and_the_latest_is_the_last(versions, run):
    for sequence in (1, 2, 3):
        versions.put(version(run.id, sequence, text=f"version {sequence}"))
    assert [item.sequence for item in versions.list(run.id)] == [1, 2, 3]
    assert versions.latest(run.id).text == "version 3"


def test_a_step_that_runs_again_takes_the_place_of_what_came_after(versions, run):
    for sequence in (1, 2, 3):
        versions.put(version(run.id, sequence))
    versions.put(version(run.id, 2, text="written again"))
    assert [item.text for item in versions.list(run.id)][1:] == ["written again"]
