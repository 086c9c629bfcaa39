from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from longleaf.engine.stops import StopScanner

TEXT = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


def scan(pieces, stops):
    scanner = StopScanner(stops)
    shown = [scanner.push(piece) for piece in pieces]
    return "".join(shown) + scanner.finish(), scanner.matched


def cut(text, stops):
    """The text before the stop string that is complete first, the longest of those complete together."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(TEXT, STOPS, st.lists(st.integers(0, 30)))
def test_result_does_not_depend_on_how_the_text_was_cut(text, stops, cuts):
    edges = [0, *sorted(min(edge, len(text)) for edge in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    assert scan(pieces, stops) == cut(text, stops)


@given(TEXT, STOPS)
def test_what_was_shown_is_never_taken_back(text, stops):
    scanner = StopScanner(stops)
    shown = ""
    for character in text:
        shown += scanner.push(character)
        assert not any(stop in shown for stop in stops)
    assert cut(text, stops)[0].startswith(shown)


def test_text_that_cannot_be_a_stop_is_shown_at_once():
    scanner = StopScanner(["END"])
    assert scanner.push("hello E") == "hello "
    assert scanner.push("L") == "EL"
