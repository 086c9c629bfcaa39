"""Finding heads: made-up pages, a model whose good heads are known, and what is kept beside a model."""

import itertools
import json
import os
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

from longleaf.engine import ModelStore, Stopped, open_engine, precision
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.calibration import Plan, calibrate, calibrate_model
from longleaf.engine.catalog import default_catalog
from longleaf.engine.errors import EngineFailed, LongleafError
from longleaf.engine.heads import FILE_NAME, fingerprint, load, save
from longleaf.engine.needles import Needle, Page, pages, read_pages

QUICK = Plan(heads=3, chosen=2, checked=1)


def short_pages(seed, count):
    """Pages that fit the tiny model's window of 256 bytes or so."""
    return [
        Page(("The heron flew.", f"Box {number} is red.", "A mill stood."), (Needle("Box?", frozenset({1})),))
        for number in range(seed, seed + count)
    ]


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model that may be written to."""
    import shutil

    return shutil.copytree(tiny_model, tmp_path / "tiny-llama")


def opened(path):
    return TorchEngine.open(path, dtype="float32", device="cpu", threads=1)


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def test_pages_are_the_same_for_a_seed_and_others_for_another():
    first = list(itertools.islice(pages(1), 3))
    assert first == list(itertools.islice(pages(1), 3))
    assert first != list(itertools.islice(pages(2), 3))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_question_asks_for_a_unit_of_its_page(held_out):
    for page in itertools.islice(pages(3, held_out=held_out), 20):
        assert len(page.needles) == 10
        assert len(set(page.units)) == len(page.units)
        for needle in page.needles:
            (right,) = needle.units
            assert 0 <= right < len(page.units)
            assert needle.question.endswith("?")
            assert len(words(needle.question) & words(page.units[right])) >= 1


@pytest.mark.parametrize("held_out", [False, True])
def test_words_in_common_do_not_find_the_answer(held_out):
    right = total = 0
    for page in itertools.islice(pages(5, held_out=held_out), 20):
        often = Counter(word for unit in page.units for word in words(unit))
        for needle in page.needles:
            asked = words(needle.question)
            scores = [sum(1 / often[word] for word in asked & words(unit)) for unit in page.units]
            (answer,) = needle.units
            right += all(scores[answer] > score for index, score in enumerate(scores) if index != answer)
            total += 1
    assert right / total < 0.5


def test_held_out_pages_ask_other_questions():
    def sentences(held_out):
        drawn = itertools.islice(pages(0, held_out=held_out), 12)
        return {needle.question for page in drawn for needle in page.needles}

    assert not sentences(False) & sentences(True)


def test_the_heads_that_look_at_the_answer_are_found(model, monkeypatch):
    """Of eight heads one always looks at the answer and one does half of the time; the others never do."""
    from longleaf.engine import attention_scores

    engine = opened(model)
    read = attention_scores.AttentionScorer.read
    half = itertools.cycle([0.0, 1.0])

    def rigged(scorer, question, context, stop=None):
        attention = read(scorer, question, context, stop)
        start, end = attention.spans[1]
        weights = torch.zeros_like(attention.weights)
        weights[:, 0:start] = 1e-3
        luck = next(half)
        for row, head in enumerate(scorer.heads):
            weights[row, start:end] = {(1, 2): 1.0, (0, 3): luck}.get(head, 0.0)
        return replace(attention, weights=weights)

    monkeypatch.setattr(attention_scores.AttentionScorer, "read", rigged)
    found = calibrate(engine, "abc", questions=short_pages(0, 12), plan=QUICK)
    assert [(head.layer, head.head) for head in found.heads[:2]] == [(1, 2), (0, 3)]
    assert found.heads[0].first == found.heads[0].reciprocal == 1
    assert found.heads[1].first == 0.5
    assert found.heads[2].first == 0
    assert (found.accuracy, found.items, found.tried, found.units) == (1, 6, 6, 3)
    assert found.fingerprint == "abc"


def test_made_up_pages_are_used_where_no_questions_are_given(tokenizer):
    from .test_attention_scores import build, engine_of

    engine = engine_of(build("Llama", tokenizer), tokenizer, heads=None, window=8000, chunk=2000, kept_tokens=8000)
    found = calibrate(engine, plan=Plan(heads=2, chosen=1, checked=1))
    assert (found.tried, found.items, len(found.heads)) == (10, 10, 2)
    assert 0 <= found.accuracy <= found.top_five <= 1


def test_when_time_is_over_one_page_each_way_has_been_asked(model):
    plan = replace(QUICK, seconds=0)
    found = calibrate(opened(model), questions=short_pages(0, 12), plan=plan)
    assert (found.tried, found.items) == (1, 1)


def test_one_page_is_too_little(model):
    with pytest.raises(EngineFailed, match="two contexts"):
        calibrate(opened(model), questions=short_pages(0, 1))


def test_can_be_stopped(model):
    with pytest.raises(Stopped):
        calibrate(opened(model), questions=short_pages(0, 4), stop=lambda: True)


def kept(model):
    return calibrate_model(
        str(model), ModelStore(model.parent), dtype="float32", device="cpu", questions=short_pages(0, 4), plan=QUICK
    )


def test_a_calibration_is_kept_beside_the_model_and_used_when_it_is_opened(model):
    assert "scores_context" not in opened(model).card.capabilities
    calibration, path = kept(model)
    assert path == model / FILE_NAME
    assert load(model) == calibration
    engine = opened(model)
    assert "scores_context" in engine.card.capabilities
    scores = engine.score_context("Box?", ["The heron flew.", "Box 1 is red."])
    assert scores.heads == tuple((head.layer, head.head) for head in calibration.heads)


def test_a_calibration_does_not_outlive_the_weights(model, caplog):
    kept(model)
    weights = model / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-3000:] = os.urandom(3000)
    weights.write_bytes(changed)
    assert load(model) is None
    assert "longleaf models calibrate tiny-llama" in caplog.text
    assert "scores_context" not in opened(model).card.capabilities


def test_a_calibration_that_cannot_be_read_is_left_aside(model, caplog):
    (model / FILE_NAME).write_text('{"heads": 3}')
    assert load(model) is None
    assert "calibrate the model again" in caplog.text


def test_fingerprints_follow_the_weights_alone(model, tmp_path):
    before = fingerprint(model)
    (model / "README.md").write_text("new")
    assert fingerprint(model) == before
    packed = tmp_path / "model.gguf"
    packed.write_bytes(b"x" * 100_000)
    one = fingerprint(packed)
    packed.write_bytes(b"x" * 99_999 + b"y")
    assert fingerprint(packed) != one


def test_a_gguf_file_has_its_own_calibration_beside_it(model, tmp_path):
    calibration, _ = kept(model)
    packed = tmp_path / "some.gguf"
    packed.write_bytes(b"x" * 5000)
    path = save(replace(calibration, fingerprint=fingerprint(packed)), packed)
    assert path == tmp_path / f"some.{FILE_NAME}"
    assert load(packed).heads == calibration.heads


def test_a_folder_that_cannot_be_written_is_said_so(model):
    calibration, _ = kept(model)
    (model / FILE_NAME).unlink()
    blocked = model / f".{FILE_NAME}.new"
    blocked.mkdir()  # also stops a superuser, whom permissions do not
    with pytest.raises(EngineFailed, match=r"writable.*longleaf models calibrate"):
        save(calibration, model)


def test_a_scripted_model_has_no_attention(tmp_path):
    with pytest.raises(EngineFailed, match="PyTorch"):
        calibrate_model("scripted:echo", ModelStore(tmp_path))


def test_the_default_reader_needs_no_calibration():
    entry = next(entry for entry in default_catalog() if entry.kind == "reader" and entry.default)
    assert entry.heads


def test_heads_that_the_model_does_not_have_are_not_used(model):
    """A model may lie in a folder that is called as a known one."""
    renamed = model.rename(model.with_name("smollm2-135m-instruct"))
    assert "scores_context" not in opened(renamed).card.capabilities


def test_heads_from_the_catalog_are_used(model, monkeypatch):
    entry = replace(default_catalog()[0], heads=((1, 1),))
    monkeypatch.setattr("longleaf.engine.heads.default_catalog", lambda: (entry,))
    engine = TorchEngine.open(model, name=entry.name, dtype="float32", device="cpu")
    assert engine.score_context("Box?", ["Box 1 is red."]).heads == ((1, 1),)
    calibration, _ = kept(model)
    engine = TorchEngine.open(model, name=entry.name, dtype="float32", device="cpu")
    assert len(engine.score_context("Box?", ["Box 1 is red."]).heads) == len(calibration.heads) == 3


def test_a_stored_model_stays_whole(model):
    from longleaf.engine import manifest

    record = manifest.describe(model, name="tiny-llama", kind="reader", source="here", licence="MIT")
    manifest.write(record, model)
    store = ModelStore(model.parent, catalog=())
    calibrate_model("tiny-llama", store, dtype="float32", questions=short_pages(0, 4), plan=QUICK)
    assert (model / FILE_NAME).is_file()
    precision.settled_dtype(model, "cpu", 32)
    assert (model / precision.FILE_NAME).is_file()
    (listed,) = store.list()
    assert (listed.fault, listed.size) == (None, record.size)
    again = manifest.describe(model, name="tiny-llama", kind="reader", source="here", licence="MIT")
    assert again.files == record.files
    assert "scores_context" in open_engine("tiny-llama", store, dtype="float32").card.capabilities


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_questions_are_read_and_grouped_by_context(tmp_path):
    context = "The mill burned in 1887. It was rebuilt. Nobody was hurt."
    file = write_lines(
        tmp_path / "questions.jsonl",
        {"question": "When did it burn?", "context": context, "answer": "1887"},
        {"question": "Who was hurt?", "context": context, "answer": ["Nobody", "no one"]},
        {"question": "Which?", "context": ["one unit", "two units"], "answer": "two"},
    )
    assert read_pages(file) == [
        Page(
            ("The mill burned in 1887.", "It was rebuilt.", "Nobody was hurt."),
            (Needle("When did it burn?", frozenset({0})), Needle("Who was hurt?", frozenset({2}))),
        ),
        Page(("one unit", "two units"), (Needle("Which?", frozenset({1})),)),
    ]


@pytest.mark.parametrize(
    "line",
    ["not json", "[1]", '{"question": "q"}', '{"question": "q", "context": "One. Two.", "answer": "three"}'],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line):
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "q", "context": "One. Two.", "answer": "One"}\n' + line + "\n")
    with pytest.raises(LongleafError, match="line 2"):
        read_pages(file)


def test_a_missing_file_of_questions_is_said_so(tmp_path):
    with pytest.raises(LongleafError, match=r"none\.jsonl"):
        read_pages(tmp_path / "none.jsonl")
