"""Questions that a model makes up: which replies are questions, and what is made of them."""

import random
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "training"))
invent = pytest.importorskip("invent")

from asking import asking, made_up, prompt  # noqa: E402
from example import Example, write  # noqa: E402
from sources import Passage, Pool, Question  # noqa: E402

TEXT = (
    "The tower of Brenn was built in 1412. A fire of two days left nothing of its roof, and the town gave it a new one."
)
SENTENCE = "The tower of Brenn was built in 1412."


def test_an_example_asks_as_the_prompt_does():
    question = Question("1", "made", "When was it built?", ("1412",), (Passage("", TEXT),), (0,), (SENTENCE,))
    item = asking(random.Random(1), Pool(short=[question]))
    asked = prompt(TEXT, SENTENCE)
    assert [message.content for message in asked] == [item.system, item.user]
    found = made_up(item.reply, Passage("", TEXT), SENTENCE)
    assert (found.text, found.answers, found.evidence) == ("When was it built?", ("1412",), (SENTENCE,))


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "1412",
        "1412\nIt was built then.",
        "1413\nWhen was the tower built?",
        "1412\nWhat was built in 1412?",
        "1412\nWhen?",
        "1412\nWhen was it built?\nWhere is the tower?",
    ],
)
def test_what_is_no_sound_question_is_dropped(reply):
    assert made_up(reply, Passage("", TEXT), SENTENCE) is None


def test_examples_hold_the_answer_or_say_that_it_is_not_there(tmp_path):
    others = [
        f"Another town is number {n} of the list, and of its own it has neither tower nor wall." * 2 for n in range(9)
    ]
    file = tmp_path / "passages.jsonl.xz"
    write([Example("passage", "Brenn", "", "", "", text) for text in (TEXT, *others)], file)
    pool = invent.pool_of(file)
    assert (pool.filler[0], SENTENCE) not in invent.told_of(pool)  # too short to tell much
    question = Question("1", "made", "When was it built?", ("1412",), (pool.filler[0],), (0,), (SENTENCE,))
    made = list(invent.examples(random.Random(3), pool, [question] * 40))
    assert {item.reply for item in made} == {"1412", "Not in the text."}
    assert all(("1412" in item.user) == (item.reply == "1412") for item in made)
