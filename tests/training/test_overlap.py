"""No evaluation question and no evaluation text among the training examples."""

from overlap import Evaluation, folded, shingles, without
from sources import Passage, Pool, Question, read


def test_no_evaluation_question_is_trained_on(pool, evaluation):
    for questions in (pool.short, pool.several, pool.quoting, pool.choices, pool.nowhere, pool.plans):
        assert not [question.text for question in questions if evaluation.asks(question.text)]


def test_no_evaluation_text_is_trained_on(pool, evaluation):
    texts = {passage.text for passage in pool.filler}
    for questions in (pool.short, pool.several, pool.quoting, pool.nowhere, pool.choices):
        texts |= {passage.text for question in questions for passage in question.passages}
    texts |= {summary.text for summary in pool.summaries}
    assert len(texts) > 5000
    assert not [text[:80] for text in texts if evaluation.holds(text)]


def test_no_evaluation_story_is_trained_on(pool, evaluation):
    assert not [item for item in pool.stories if evaluation.tells(item.passages[0].text, item.text)]


def test_the_check_finds_what_does_overlap(data, evaluation):
    """The check itself can fail: it finds evaluation questions and texts given to it as training data."""
    import json

    row = json.loads((data / "hotpotqa" / "dev_distractor.jsonl").read_text(encoding="utf-8").splitlines()[0])
    passages = tuple(Passage(part["title"], part["text"]) for part in row["paragraphs"])
    fresh = Question("", "planted", "A question nobody asks?", ("x",), passages[:1], (0,))
    asked = Question("", "planted", row["question"].upper(), ("x",), (Passage("", "short text"),), (0,))
    kept, dropped = without(Pool(short=[fresh, asked], filler=list(passages)), evaluation)
    assert not kept.short
    assert dropped["planted"] == 2
    assert len(kept.filler) < len(passages)


def test_evaluation_files_are_not_read_for_training(data):
    names = {question.source for question in read(data).short}
    assert not names & {"xquad", "leval", "bamboo"}


def test_runs_of_words_are_blind_to_case_and_punctuation():
    one = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while."
    assert shingles(one) == shingles(one.upper().replace(",", ""))
    assert folded("Who, then?") == "who then"
    assert not Evaluation(frozenset(), frozenset(), frozenset()).holds(one)
