"""Stories: the answer by another reckoning, and notes that are enough to answer from."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import story

KINDS = ("person", "thing", "before")


def end_of(events, kind, question):
    """The answer, reckoned from the last event backwards instead of forwards."""
    subject = next(word for word in question.rstrip("?").split() if word not in ("Where", "is", "was", "the", "before"))
    if kind == "person":
        return next(event.what for event in reversed(events) if event.act == "went" and event.person == subject)
    visits = []
    for place, event in enumerate(events):
        if event.act == "took" and event.what == subject:
            before = [other for other in events[:place] if other.act == "went" and other.person == event.person]
            visits.append(before[-1].what)
            for later in events[place + 1 :]:
                if later.person == event.person and later.act == "left" and later.what == subject:
                    break
                if later.person == event.person and later.act == "went":
                    visits.append(later.what)
    path = [place for at, place in enumerate(visits) if at == 0 or visits[at - 1] != place]
    return path[-1] if kind == "thing" else path[path.index(question.rstrip("?").split()[-1]) - 1]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(KINDS), st.integers(3, 30))
def test_the_answer_follows_from_the_events(seed, kind, length):
    made = story(random.Random(seed), kind, max(length, 8) if kind != "person" else length)
    assert made.answer == end_of(made.events, kind, made.question)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(KINDS))
def test_what_a_whole_reading_notes_is_enough(seed, kind):
    made = story(random.Random(seed), kind, 20)
    noted = [made.events[place] for place in made.helpful(0, len(made.events))]
    if kind == "person":
        assert end_of(noted, kind, made.question) == made.answer
    else:
        assert {made.events[place] for place in made.supporting} <= set(noted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_tells_the_same_story(kind):
    assert story(random.Random("a"), kind, 20) == story(random.Random("a"), kind, 20)
