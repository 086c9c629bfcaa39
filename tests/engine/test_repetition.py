"""A reply that runs in circles is ended; one that only repeats itself a little is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.engine.repetition import LEAST_TOKENS, REPEATS, runs_in_circles


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_what_is_said_five_times_over_is_a_circle(before, said):
    times = max(REPEATS, -(-LEAST_TOKENS // len(said)))
    assert runs_in_circles(before + said * times)


@given(st.lists(st.integers(0, 9), max_size=60))
def test_a_short_reply_or_one_of_different_tokens_is_not(ids):
    assert not runs_in_circles(ids[: LEAST_TOKENS - 1])
    assert not runs_in_circles(list(range(100, 100 + len(ids))))


@pytest.mark.parametrize("ids", [[], [1], [1] * (LEAST_TOKENS - 1), [1, 2, 3, 4, 5, 6] * 4, [*[7] * 40, 1, 2]])
def test_lists_and_rhymes_are_left_alone(ids):
    assert not runs_in_circles(ids)
