"""Thought templates: kept once, counted by run, the most used first."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from longleaf.memory.database import Database
from longleaf.memory.records import TemplateRecord
from longleaf.memory.templates import Templates

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def template(number=0, run="run", **changes):
    made = TemplateRecord(
        f"{number:032x}",
        "Who is X?",
        ("who",),
        ("Find a sentence.", "Ask: #1?"),
        run,
        1,
        NOON + timedelta(hours=number),
    )
    return replace(made, **changes)


@pytest.fixture
def templates(tmp_path):
    with Database.open(tmp_path / "longleaf.db") as database:
        yield Templates(database)


def test_a_template_comes_back_as_it_was_kept(templates):
    templates.learn(template())
    assert templates.list() == [template()]


def test_a_way_that_answers_again_is_counted_once_for_each_run(templates):
    templates.learn(template(run="one"))
    templates.learn(template(run="one"))
    assert templates.list()[0].uses == 1
    templates.learn(template(run="two", made_at=NOON + timedelta(days=1)))
    (kept,) = templates.list()
    assert (kept.uses, kept.run_id, kept.made_at) == (2, "two", NOON + timedelta(days=1))


def test_the_most_used_and_then_the_newest_come_first(templates):
    for number in (1, 2, 3):
        templates.learn(template(number))
    templates.learn(template(1, run="again"))
    assert [int(item.id, 16) for item in templates.list()] == [1, 3, 2]
    assert len(templates.list(limit=2)) == 2


def test_a_template_is_forgotten(templates):
    templates.learn(template(1))
    templates.learn(template(2))
    templates.forget([template(1).id, "absent"])
    assert [item.id for item in templates.list()] == [template(2).id]


def test_what_no_database_can_store_is_kept_all_the_same(templates):
    templates.learn(template(shape="Who is \0 X?"))
    assert templates.list()[0].shape == "Who is \ufffd X?"
