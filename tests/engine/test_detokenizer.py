from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import build_tokenizer

from longleaf.engine.detokenizer import Detokenizer

TOKENIZER = build_tokenizer()


@given(st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"]), max_size=40))
def test_pieces_are_whole_characters_and_make_the_text(text):
    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True).input_ids
    detokenizer = Detokenizer(TOKENIZER, [1, 2, 3])
    pieces = [detokenizer.push(id_) for id_ in ids]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == text


def test_unfinished_character_is_left_out():
    ids = TOKENIZER("a€", add_special_tokens=False).input_ids
    detokenizer = Detokenizer(TOKENIZER, [])
    pieces = [detokenizer.push(id_) for id_ in ids[:-1]]
    assert "".join(pieces) + detokenizer.finish() == "a"


def test_invalid_bytes_are_not_held_for_ever():
    broken = TOKENIZER("€", add_special_tokens=False).input_ids[-1]
    detokenizer = Detokenizer(TOKENIZER, [])
    assert any(detokenizer.push(broken) for _ in range(50))
