"""What a question says of time becomes bounds on a column."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.agents.period import Period, period

NOW = datetime(2026, 11, 22, 15, 30, tzinfo=timezone(timedelta(hours=2)))  # a Sunday


def at(day, month=11, year=2026):
    return datetime(year, month, day, tzinfo=NOW.tzinfo)


@pytest.mark.parametrize(
    ("question", "since", "until"),
    [
        ("What did I ask yesterday?", at(21), at(22)),
        ("what was said about the bridge today", at(22), None),
        ("What did I ask last week?", at(9), at(16)),
        ("What did I ask this week about farms?", at(16), None),
        ("What did we find last month?", at(1, 10), at(1)),
        ("What did I ask last year?", at(1, 1, 2025), at(1, 1)),
        ("What did I ask in the last 3 days?", NOW - timedelta(days=3), None),
        ("What did I ask in the past week?", NOW - timedelta(days=7), None),
        ("What did I ask two days ago?", at(20), at(21)),
        ("What did I ask an hour ago?", NOW - timedelta(hours=2), NOW),
        ("What did I ask before 2026-11-03?", None, at(3)),
        ("What did I ask on 2026-11-03?", at(3), at(4)),
        ("What did I ask since 2026-11-03?", at(3), None),
        ("What did I ask after 2026-11-03?", at(4), None),
    ],
)
def test_words_of_time_bound_the_time_of_asking(question, since, until):
    found = period(question, NOW)
    assert (found.since, found.until) == (since, until)
    assert found.bounded


@pytest.mark.parametrize(
    "question",
    [
        "What happened before 1887?",
        "Who was the first king?",
        "What was signed on 2026-11-03?",
        "What happened after the war?",
        "Which came first?",
    ],
)
def test_the_time_a_document_speaks_of_is_none_of_ours(question):
    found = period(question, NOW)
    assert (found.bounded, found.ours, found.order, found.rest) == (False, False, "newest", question)


def test_first_and_last_are_orders():
    assert period("What did I ask first?", NOW).order == "oldest"
    assert period("What was my last question?", NOW).order == "newest"
    assert period("What did I ask first?", NOW).ours


def test_before_and_after_something_that_was_asked():
    asked = {"the bridge": NOW - timedelta(days=2)}
    before = period("What did I ask before the question about the bridge?", NOW, asked.get)
    after = period("What did I ask after I asked about the bridge?", NOW, asked.get)
    assert (before.since, before.until) == (None, asked["the bridge"])
    assert after.since > asked["the bridge"]
    assert after.until is None
    assert not period("What did I ask before the moon?", NOW, asked.get).bounded


def test_a_date_that_is_none_is_passed_over():
    assert not period("What did I ask on 2026-13-45?", NOW).bounded


@given(st.text(max_size=80), st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_any_text_has_a_period(question, now):
    found = period(question, now)
    assert isinstance(found, Period)
    assert found.since is None or found.until is None or found.since < found.until
