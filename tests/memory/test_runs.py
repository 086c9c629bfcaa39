"""Runs, steps and claims, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from longleaf.memory.errors import RunMissing
from longleaf.memory.records import ClaimRecord, QuoteRecord, RunRecord, StepRecord

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
RUN = RunRecord(
    id="run-1",
    question="Who\0 is the captain?",
    reader="retrieve",
    document_ids=("d1", "d2"),
    settings={"budget": 3, "deep": {"a": [1, None, "\0"]}},
    settings_hash="abc",
    prompt_hashes={"answer": "def"},
    model="model",
    status="running",
    stop_reason=None,
    answer=None,
    started_at=NOW,
    ended_at=None,
)
STEP = StepRecord("run-1", 0, "read", ("t:000001",), 1, 100, 20, 50, 0.25, "ok", None, NOW)
CLAIMS = [
    ClaimRecord("Ahab is the captain.", 0.9, (QuoteRecord("d1", 3, 9, 1, "Captain", "verified"),)),
    ClaimRecord("He sails.", None, ()),
    ClaimRecord(
        "Twice.",
        0.5,
        (QuoteRecord("d1", 0, 2, 1, "x", "stitched"), QuoteRecord("d2", 5, 6, 2, "y", "missing")),
    ),
]


@pytest.fixture
def run(runs):
    runs.start(RUN)
    return replace(RUN, question="Who\ufffd is the captain?")


def test_a_run_from_start_to_finish(runs, run):
    assert runs.get("run-1") == run
    first, second = runs.step(STEP), runs.step(replace(STEP, node="answer", status="failed", error="a\0b"))
    runs.finish("run-1", "done", "answered", {"text": "Ahab", "nested": [1, 2.5, None]}, CLAIMS)

    ended = runs.get("run-1")
    assert (ended.status, ended.stop_reason) == ("done", "answered")
    assert ended.answer == {"text": "Ahab", "nested": [1, 2.5, None]}
    assert ended.ended_at is not None
    assert ended.ended_at.tzinfo is not None
    assert (first.sequence, second.sequence) == (1, 2)
    assert runs.steps("run-1") == [first, replace(second, error="a\ufffdb")]
    assert runs.claims("run-1") == CLAIMS


def test_a_run_that_ends_twice_keeps_its_last_claims(runs, run):
    runs.finish("run-1", "interrupted", "cancelled", None, CLAIMS)
    runs.finish("run-1", "done", None, {}, CLAIMS[:1])

    assert runs.claims("run-1") == CLAIMS[:1]
    assert runs.get("run-1").answer == {}


def test_no_answer_is_none(runs, run):
    runs.finish("run-1", "failed", "window exceeded", None, [])

    assert runs.get("run-1").answer is None
    assert runs.claims("run-1") == []


def test_quotes_outlive_their_document(runs, documents, sample, add):
    add(sample)
    runs.start(RUN)
    quote = QuoteRecord(sample.document.id, 0, 7, 1, "chapter", "verified")
    runs.finish("run-1", "done", None, {}, [ClaimRecord("c", 1.0, (quote,))])

    documents.remove(sample.document.id)

    assert runs.claims("run-1")[0].quotes == (quote,)


def test_newest_runs_come_first(runs):
    for number in range(5):
        runs.start(replace(RUN, id=f"run-{number}", started_at=NOW + timedelta(minutes=number)))

    assert [run.id for run in runs.list(2)] == ["run-4", "run-3"]
    assert len(runs.list(100)) == 5


def test_times_are_utc_whatever_goes_in(runs):
    tokyo = timezone(timedelta(hours=9))
    runs.start(replace(RUN, started_at=NOW.astimezone(tokyo)))
    assert runs.get("run-1").started_at == NOW
    assert runs.get("run-1").started_at.utcoffset() == timedelta(0)
    with pytest.raises(Exception, match="time zone"):
        runs.start(replace(RUN, id="run-2", started_at=NOW.replace(tzinfo=None)))


def test_prefixes(runs):
    runs.start(RUN)
    runs.start(replace(RUN, id="run-2"))
    runs.start(replace(RUN, id="other"))

    assert runs.get("oth").id == "other"
    with pytest.raises(RunMissing, match="run-1, run-2"):
        runs.get("run")
    for wanted in ("", "%", "zzz", "\0"):
        with pytest.raises(RunMissing, match="longleaf runs"):
            runs.get(wanted)


def test_a_missing_run(runs):
    with pytest.raises(RunMissing):
        runs.finish("none", "done", None, None, [])
    with pytest.raises(RunMissing):
        runs.step(replace(STEP, run_id="none"))
    assert runs.steps("none") == runs.claims("none") == []


def test_steps_of_many_threads_get_one_sequence_each(runs, run):
    with ThreadPoolExecutor(8) as pool:
        placed = list(pool.map(lambda _: runs.step(STEP).sequence, range(60)))

    assert sorted(placed) == list(range(1, 61))
    assert [step.sequence for step in runs.steps("run-1")] == list(range(1, 61))


def test_runs_of_a_process_that_is_gone_are_interrupted(runs):
    runs.start(RUN)
    runs.start(replace(RUN, id="run-2"))
    runs.finish("run-2", "done", None, {}, [])

    assert runs.interrupt_running() == 1
    assert runs.get("run-1").status == "interrupted"
    assert runs.get("run-2").status == "done"
