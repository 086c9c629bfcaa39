"""Parts hold every character once, within the budget, whatever the text."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.agents.errors import BudgetTooSmall, DocumentChanged
from longleaf.agents.part import fingerprint, fits, parts, same
from longleaf.agents.reader import Ask, Budget
from longleaf.engine.backends.scripted import ScriptedEngine

BOOK = "".join(f"Farm {n} grew wheat, barley and rye on {n + 10} acres of good land. " for n in range(60))


def ask(tokens, *document_ids):
    return Ask("Who?", document_ids, budget=Budget(part_tokens=tokens))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["word ", "Sentence here. ", "\n\n", "x" * 90, "é ü ", "longwordwithoutend"]), min_size=1),
    st.integers(8, 200),
)
def test_parts_hold_every_character_once_and_in_order(desk, pieces, limit):
    characters = "start " + "".join(pieces)
    document = desk.add(characters)

    made = parts(ask(limit, document.id), desk.deps)

    assert [part.ordinal for part in made] == list(range(len(made)))
    text = desk.deps.shelf.text(document.id)
    assert "".join(text.slice(part.span) for part in made) == text.characters
    for part in made:
        assert part.tokens <= limit or len(text.slice(part.span).split()) <= 1
        assert part.chunk_ids
        spans = desk.deps.shelf.spans(part.chunk_ids)
        assert min(span.start for _, span in spans.values()) <= part.span.start
        assert part.span.end <= max(span.end for _, span in spans.values())


def test_parts_are_as_full_as_whole_chunks_allow(desk):
    desk.add(BOOK)
    made = parts(ask(200), desk.deps)
    assert len(made) > 2
    chunks = {chunk.id: chunk for chunk in desk.chunks()}
    for part, following in pairwise(made):
        first = chunks[following.chunk_ids[0]]
        assert part.tokens + desk.deps.engine.count(BOOK[first.start : first.end]) > 200


def test_documents_come_in_the_order_they_were_named(desk):
    one, two = desk.add(BOOK, "one.txt"), desk.add(BOOK.replace("wheat", "oats"), "two.txt")
    order = [part.document_id for part in parts(ask(300, two.id, one.id), desk.deps)]
    assert order == sorted(order, key=[two.id, one.id].index)
    assert set(order) == {one.id, two.id}


def test_a_run_does_not_go_on_with_other_parts_than_it_began_with(desk):
    desk.add(BOOK)
    made = parts(ask(200), desk.deps)
    same(parts(ask(200), desk.deps), fingerprint(made))
    with pytest.raises(DocumentChanged, match="Ask the question again"):
        same(parts(ask(100), desk.deps), fingerprint(made))


def test_a_part_that_cannot_fit_the_window_is_refused_with_a_size_that_does(desk):
    deps = SimpleNamespace(engine=ScriptedEngine([""], window=300))
    fits(ask(100), deps, "What?", 50)
    with pytest.raises(BudgetTooSmall, match=r"read\.part_tokens=(\d+)") as raised:
        fits(ask(280), deps, "What?", 50)
    advised = int(str(raised.value).split("read.part_tokens=")[1].split(")")[0])
    fits(ask(advised), deps, "What?", 50)
