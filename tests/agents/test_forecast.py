"""`--dry-run`: what a reading would cost is said before it begins, and the reading then costs no more."""

import pytest
import scripts

from longleaf.agents.errors import NothingToRead
from longleaf.agents.forecast import forecast
from longleaf.agents.reader import Ask, Budget
from longleaf.agents.registry import readers
from longleaf.engine.backends.scripted import ScriptedEngine

BUDGET = Budget(part_tokens=80, memory_tokens=48, members=3, answer_tokens=40)


@pytest.mark.parametrize("reader", sorted(readers()))
def test_a_reading_costs_no_more_than_was_said(desk, reader):
    desk.add(scripts.BOOK)
    ask = Ask(scripts.QUESTION, reader=reader, budget=BUDGET)
    working = desk.with_engine(
        ScriptedEngine(getattr(scripts, reader, lambda request: scripts.SENTENCE), attention=True)
    )

    said = forecast(ask, working.deps)
    assert desk.deps.runs.list() == []
    answer = working.ask(ask)

    assert 0 < answer.usage.calls <= said.estimate.calls
    assert answer.usage.prompt_tokens <= said.estimate.prompt_tokens
    assert answer.usage.generated_tokens <= said.estimate.generated_tokens
    assert said.seconds > 0
    assert said.reader == answer.reader


def test_a_forecast_of_nothing_is_refused(desk):
    with pytest.raises(NothingToRead):
        forecast(Ask("What?", reader="retrieve"), desk.deps)
