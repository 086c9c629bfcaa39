"""The training examples: what is quoted stands in the text, and what has no answer does not tell it."""

import random
import re
from collections import Counter

import notes
import quoting
import short
from example import read, write
from mix import SHARES, examples

from longleaf.agents.prompt import load
from longleaf.retrieval.sentence import sentences
from longleaf.retrieval.text import Span

MANY = 120


def text_of(item):
    return " ".join(" ".join(re.findall(r"<text>(.*?)</text>", item.user, re.DOTALL)).split())


def test_an_example_is_what_its_reader_would_send(pool):
    item = short.answerable(random.Random(3), pool)
    known = {load(name).system for name in ("reason", "direct", "team_side", "chain_manager", "hop", "clarify_ground")}
    assert item.system in known
    assert item.user.count("<text>") == 1


def test_short_answers_stand_in_their_text(pool):
    draw = random.Random(1)
    for _ in range(MANY):
        item = short.answerable(draw, pool)
        assert " ".join(item.reply.split()) in text_of(item)


def test_altered_facts_are_told_by_the_text_and_nothing_else(pool):
    draw = random.Random(1)
    for _ in range(MANY):
        item = short.altered(draw, pool)
        assert item.reply in text_of(item)


def test_what_is_shown_as_quotes_stands_in_the_passages_and_holds_the_answer(pool):
    draw = random.Random(6)
    told = 0
    for question in draw.choices(pool.several, k=MANY):
        blocks = short.quoted(draw, question)
        texts = [passage.text for passage in question.passages]
        whole = [" ".join(text.split()) for text in texts]
        assert all(any(" ".join(block.split()) in text for text in whole) for block in blocks)
        answer = question.answers[0]
        parts = {text[span.start : span.end].strip() for text in texts for span in sentences(text, Span(0, len(text)))}
        if any(answer in line for line in parts & set(question.evidence)):
            told += 1
            assert any(answer in block for block in blocks)
    assert told > MANY / 2


def test_an_answer_gives_way_to_one_that_is_asked_for_alike(pool):
    draw = random.Random(8)
    changed = [(asked, short.otherwise(draw, pool, asked)) for asked in draw.choices(pool.several, k=4 * MANY)]
    kept = [(asked, new) for asked, new in changed if new]
    assert len(kept) > 20
    for asked, new in kept:
        text = " ".join(passage.text for passage in new.needed)
        assert new.answers[0] in text
        assert not re.search(rf"(?<!\w){re.escape(asked.answers[0])}(?!\w)", text.replace(new.answers[0], ""))


def test_one_of_many_is_told_once(pool):
    draw = random.Random(1)
    for _ in range(MANY):
        item = short.competing(draw, pool)
        assert item.reply in text_of(item)


def test_quotes_stand_in_their_text_and_end_their_quotation(pool):
    draw = random.Random(2)
    for make in (quoting.one, notes.memory, notes.story):
        for _ in range(MANY):
            item = make(draw, pool)
            if item.task == "notes, plain":
                continue
            assert item.reply.endswith('"')
            for line in item.reply.removesuffix('"').splitlines():
                assert line in text_of(item)


def test_nothing_is_quoted_where_nothing_answers(pool):
    draw = random.Random(2)
    assert all(quoting.nothing(draw, pool).reply == '"' for _ in range(MANY))


def test_what_is_said_to_be_nowhere_is_not_told(pool):
    """The answer that a question has elsewhere does not stand in the text that is said not to hold it."""
    answers = {question.text: question.answers for question in pool.short}
    draw = random.Random(2)
    for _ in range(MANY):
        item = short.unanswerable(draw, pool)
        asked = item.user.rsplit("Question: ", 1)[1]
        for answer in answers.get(asked, ())[:1]:
            assert item.reply == short.NOWHERE
            assert answer.lower() not in text_of(item).lower()


def test_a_worker_hands_on_what_it_was_given(pool):
    draw = random.Random(5)
    for _ in range(MANY):
        item = notes.chain(draw, pool)
        before = re.search(r"<text>\n(.*?)\n</text>", item.user, re.DOTALL).group(1)
        if before != "(nothing yet)":
            assert all(line in item.reply for line in before.splitlines())


def test_evidence_is_a_sentence_of_its_passage(pool):
    for question in random.Random(4).sample(pool.short, MANY):
        text = question.passages[0].text
        parts = {text[span.start : span.end].strip() for span in sentences(text, Span(0, len(text)))}
        assert question.evidence[0] in parts


def test_the_mix_is_the_same_again_and_holds_every_task(pool):
    one = list(examples(pool, 7, 0.004))
    assert one == list(examples(pool, 7, 0.004))
    assert one != list(examples(pool, 8, 0.004))
    assert len(one) == sum(round(share.count * 0.004) for share in SHARES)
    assert len(Counter(item.task for item in one)) > 10


def test_about_a_quarter_has_nothing_to_answer_with():
    counts = {share.name: share.count for share in SHARES}
    nowhere = counts["short answer, not in the text"]
    asked = [counts[name] for name in ("short answer", "several steps", "altered fact", "one form, many things")]
    assert 0.15 < nowhere / (nowhere + sum(asked)) < 0.3


def test_examples_come_back_from_their_file(pool, tmp_path):
    made = list(examples(pool, 7, 0.002))
    write(made, tmp_path / "some.jsonl.xz")
    assert list(read(tmp_path / "some.jsonl.xz")) == made
