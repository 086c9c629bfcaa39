"""Coverage comes from the steps: what was read once stays read, what was left out says why, gaps are named."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.agents.coverage import covered
from longleaf.memory.records import StepRecord

BOOK = "".join(f"Farm {n} grew wheat, barley and rye on {n + 10} acres of good land. " for n in range(60))
STATUSES = ("done", "failed", "skipped")


def step(chunk_ids, status, why=None):
    return StepRecord("r", 1, "read", tuple(chunk_ids), 1, 1, 1, 0, 0.1, status, why, datetime.now(UTC))


@pytest.fixture
def book(desk):
    document = desk.add(BOOK)
    return desk, document, desk.deps.documents.chunks(document.id)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_character_is_told_once_where_gaps_are_named(book, data):
    desk, document, chunks = book
    steps = [
        step([chunks[at].id for at in data.draw(st.sets(st.integers(0, len(chunks) - 1), max_size=4))], status, status)
        for status in data.draw(st.lists(st.sampled_from(STATUSES), max_size=8))
    ]
    parts = covered(steps, [document], desk.deps, gap="not reached")

    assert [(part.start, part.end) for part in parts] == sorted((part.start, part.end) for part in parts)
    assert sum(part.end - part.start for part in parts) == len(BOOK)
    read = {key for item in steps if item.status == "done" for key in item.chunk_ids}
    for chunk in chunks:
        (part,) = [part for part in parts if part.start <= chunk.start < part.end]
        assert (part.how == "read") == (chunk.id in read)
        if part.how == "skipped":
            assert part.why in (*STATUSES, "not reached")


def test_what_failed_first_and_was_read_later_is_read(book):
    desk, document, chunks = book
    steps = [step([chunks[0].id], "failed", "busy"), step([chunks[0].id], "done"), step([chunks[0].id], "failed", "x")]
    (part,) = covered(steps, [document], desk.deps)
    assert (part.how, part.start, part.end) == ("read", chunks[0].start, chunks[0].end)


def test_neighbours_are_one_part_only_where_they_went_the_same_way(book):
    desk, document, chunks = book
    steps = [
        step([chunks[0].id, chunks[1].id], "done"),
        step([chunks[2].id], "skipped", "nothing points to it"),
        step([chunks[3].id], "failed", "the server went away"),
    ]
    parts = covered(steps, [document], desk.deps)
    assert [(part.how, part.why) for part in parts] == [
        ("read", ""),
        ("skipped", "nothing points to it"),
        ("skipped", "the server went away"),
    ]
    assert (parts[0].start, parts[0].end) == (chunks[0].start, chunks[1].end)
