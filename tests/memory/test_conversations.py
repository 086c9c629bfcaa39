"""Conversations: turns in order, the last one asked, summaries beside the turns they stand for."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from longleaf.memory.conversations import Conversations
from longleaf.memory.errors import ConversationMissing, RunMissing
from longleaf.memory.questions import Questions
from longleaf.memory.records import QuestionRecord, SummaryRecord, TurnRecord

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def turn(conversation, number=1, run=None, **changes):
    values = {
        "conversation_id": conversation.id,
        "ordinal": 0,
        "asked": f"and number {number}?",
        "question": f"What is number {number}?",
        "document_ids": ("d1",),
        "run_id": run or f"run{number}",
        "answer": f"It is {number}.",
        "found": True,
        "tokens": 7,
        "asked_at": NOON + timedelta(minutes=number),
    }
    return TurnRecord(**values | changes)


@pytest.fixture
def conversations(database):
    return Conversations(database)


def test_turns_come_back_as_they_were_in_order(conversations):
    talk = conversations.start("What is number 1?", NOON)
    kept = [conversations.append(turn(talk, number)) for number in (1, 2, 3)]

    assert [item.ordinal for item in kept] == [1, 2, 3]
    assert conversations.turns(talk.id) == kept
    assert conversations.turns(talk.id, after=2) == kept[2:]
    found = conversations.get(talk.id[:8])
    assert (found.title, found.turns, found.asked_at) == ("What is number 1?", 3, NOON + timedelta(minutes=3))


def test_a_turn_of_the_same_run_is_not_written_twice(conversations):
    talk = conversations.start("t", NOON)
    first = conversations.append(turn(talk))
    assert conversations.append(turn(talk, answer="Another.")) == first
    assert conversations.turns(talk.id) == [first]


def test_turns_written_at_once_get_an_ordinal_each(conversations):
    talk = conversations.start("t", NOON)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: conversations.append(turn(talk, number)), range(12)))
    assert [item.ordinal for item in conversations.turns(talk.id)] == [*range(1, 13)]


def test_the_latest_is_the_one_asked_last(conversations):
    assert conversations.latest() is None
    first = conversations.start("first", NOON)
    second = conversations.start("second", NOON + timedelta(hours=1))
    assert conversations.latest().id == second.id
    conversations.append(turn(first, asked_at=NOON + timedelta(hours=2)))
    assert conversations.latest().id == first.id
    assert [item.id for item in conversations.list()] == [first.id, second.id]


def test_summaries_add_up_and_the_turns_stay(conversations):
    talk = conversations.start("t", NOON)
    turns = [conversations.append(turn(talk, number)) for number in range(1, 6)]
    assert conversations.summary(talk.id) is None
    made = [SummaryRecord(talk.id, up_to, f"up to {up_to}", 4, NOON) for up_to in (2, 4)]
    for summary in made:
        conversations.summarise(summary)

    assert conversations.summary(talk.id) == made[1]
    assert conversations.summaries(talk.id) == made
    assert conversations.turns(talk.id) == turns


def test_what_is_deleted_is_gone_and_the_others_stay(conversations):
    talk, other = conversations.start("t", NOON), conversations.start("o", NOON)
    for each in (talk, other):
        conversations.append(turn(each))
        conversations.summarise(SummaryRecord(each.id, 1, "s", 1, NOON))
    conversations.delete(talk.id)

    assert [item.id for item in conversations.list()] == [other.id]
    assert conversations.turns(talk.id) == conversations.summaries(talk.id) == []
    assert len(conversations.turns(other.id)) == 1
    for attempt in (
        lambda: conversations.delete(talk.id),
        lambda: conversations.get(talk.id),
        lambda: conversations.get(""),
        lambda: conversations.append(turn(talk)),
        lambda: conversations.summarise(SummaryRecord(talk.id, 1, "s", 1, NOON)),
    ):
        with pytest.raises(ConversationMissing, match="longleaf chats"):
            attempt()


def question(number, **changes):
    values = {
        "run_id": f"run{number}",
        "asked": f"What is number {number}?",
        "key": f"what is number {number}",
        "words": ("number", str(number)),
        "document_ids": ("d1", "d2"),
        "answer": f"It is {number}.",
        "found": True,
        "asked_at": NOON + timedelta(days=number),
    }
    return QuestionRecord(**values | changes)


def test_a_question_that_was_asked_before_is_known(database):
    questions = Questions(database)
    first, again = question(1), question(5, key="what is number 1", found=False)
    for item in (first, question(2), again, again):
        questions.add(item)

    assert questions.before("what is number 1", ("d2", "d1")) == again
    assert questions.before("what is number 1", ("d1",)) is None
    assert questions.before("what is number 9", ("d1", "d2")) is None


def test_questions_are_recalled_by_time_order_and_words(database):
    questions = Questions(database)
    made = [question(number) for number in range(1, 5)]
    for item in made:
        questions.add(item)

    assert questions.recall() == made[::-1]
    assert questions.recall(order="oldest", limit=1) == made[:1]
    assert questions.recall(since=made[1].asked_at, until=made[3].asked_at, order="oldest") == made[1:3]
    assert questions.recall(words=["3"]) == [made[2]]
    assert questions.recall(words=["%"]) == []


def test_feedback_is_kept_and_questions_can_be_forgotten(database):
    questions = Questions(database)
    questions.add(question(1))
    questions.judge("run1", "bad")
    assert questions.recall()[0].feedback == "bad"
    with pytest.raises(RunMissing):
        questions.judge("run2", "good")
    questions.forget(["run1", "run2"])
    assert questions.recall() == []
