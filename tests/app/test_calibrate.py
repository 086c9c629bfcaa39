"""`longleaf models calibrate`, on a tiny model with random weights."""

import json

import pytest
from tiny_llama import build_tokenizer

from ..engine.test_attention_scores import build

CONTEXTS = [["The heron flew.", f"Box {number} is red.", "A mill stood."] for number in range(4)]


@pytest.fixture
def model(shell):
    tokenizer = build_tokenizer()
    folder = shell.folder / "tiny"
    build("Llama", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def questions(shell):
    lines = [{"question": "Which box?", "context": context, "answer": "is red"} for context in CONTEXTS]
    return shell.write("questions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def test_calibrating_shows_the_heads_and_keeps_them(shell, model, questions):
    done = shell("models", "calibrate", "./tiny", "--questions", questions.name)
    assert done.code == 0, done.err
    assert "mean reciprocal rank" in done.out
    assert "on 2 other questions: the right sentence of 3 comes first for" in done.out
    assert "choosing heads: asked 2 questions" in done.err
    kept = json.loads((model / "longleaf-heads.json").read_text())
    assert len(kept["heads"]) == 8


def test_calibrating_as_json_takes_the_model_of_the_settings(shell, model, questions):
    done = shell("models", "calibrate", "--questions", questions.name, "--json", "--set", f"model.name={model}")
    assert done.code == 0, done.err
    assert done.err == ""
    assert (done.json["model"], done.json["items"], done.json["tried"]) == ("tiny", 2, 2)
    assert done.json["file"] == str(model / "longleaf-heads.json")


def test_a_model_on_a_server_cannot_be_calibrated(shell):
    done = shell("models", "calibrate", "--set", "model.base_url=http://127.0.0.1:9/v1")
    assert done.code == 2
    assert "server" in done.err


def test_questions_that_cannot_be_read_are_named(shell, model):
    shell.write("questions.jsonl", "{}\n")
    done = shell("models", "calibrate", "./tiny", "--questions", "questions.jsonl")
    assert done.code == 1
    assert "questions.jsonl, line 1" in done.err
    assert not (model / "longleaf-heads.json").exists()
