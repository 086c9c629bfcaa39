import pytest
from score import exact, f1, holds, normalised, support


def test_normalised_drops_case_articles_punctuation_and_space():
    assert normalised("The  “Magic” number: 7,391,842.") == "magic number 7391842"


@pytest.mark.parametrize(
    ("text", "golds", "expected"),
    [
        ("the Eiffel Tower", ["Eiffel Tower"], True),
        ("It is the Eiffel Tower.", ["Eiffel Tower"], False),
        ("Rush", ["Yes (band)", "rush"], True),
    ],
)
def test_exact_match_is_of_the_whole_reply(text, golds, expected):
    assert exact(text, golds) is expected


def test_f1_is_of_shared_words():
    assert f1("it is Paris", ["Paris"]) == pytest.approx(2 * 1 / 4)
    assert f1("London", ["Paris"]) == 0
    assert f1("", ["Paris"]) == 0


@pytest.mark.parametrize(
    ("text", "golds", "expected"),
    [
        ("The number is 7391842.", ["7391842"], True),
        ("The number is 73918421.", ["7391842"], False),
        ("No, they are not.", ["no"], True),
        ("There is no doubt: yes.", ["no"], False),
        ("", ["yes"], False),
        ("anything", ["..."], False),
    ],
)
def test_a_reply_holds_an_answer_as_whole_words(text, golds, expected):
    assert holds(text, golds) is expected


def test_support_is_the_share_of_evidence_that_is_quoted():
    assert support([(0, 10)], [(5, 20), (30, 40)]) == 0.5
    assert support([(10, 20)], [(0, 10)]) == 0
    assert support([], []) == 1
