"""Training, on a tiny model: what is learned from, what comes out, and going on after a cut."""

import json

import pytest
import torch

packing = pytest.importorskip("packing")
train = pytest.importorskip("train")

from example import Example, write  # noqa: E402

from longleaf.engine import adapter as adapters  # noqa: E402
from longleaf.engine.contract import Message  # noqa: E402
from longleaf.engine.loading import load_model, load_tokenizer  # noqa: E402
from longleaf.engine.prompt import PromptForm  # noqa: E402


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    made = [
        Example("short", "made", "Answer.", f"<text>\nkey {n} is {n * 7}\n</text>", "", str(n * 7)) for n in range(24)
    ]
    file = tmp_path_factory.mktemp("examples") / "some.jsonl.xz"
    write([*made, Example("text", "made", "", "", "", "A text without a prompt.")], file)
    return file


CONFIG = train.Config(rank=4, alpha=8, batch_tokens=900, longest=300, seconds=600.0, epochs=2.0, held_out=4, rate=0.01)


def test_what_is_learned_is_the_reply_and_the_end_of_the_turn(base):
    item = Example("short", "made", "Answer.", "<text>\nA <|im_end|> B\n</text>", "", "42")
    row = train.encoded([item], base)[0]
    tokenizer = load_tokenizer(base)
    asked = PromptForm(tokenizer).encode([Message("system", "Answer."), Message("user", item.user)]).ids
    assert list(row.ids[: row.asked]) == asked
    assert tokenizer.decode(row.ids[row.asked :]) == "42<|im_end|>"


def test_an_adapter_is_learned_and_the_engine_reads_it(base, examples, tmp_path):
    out = tmp_path / "adapter"
    train.run(CONFIG, base, [examples], out, "cpu", name="made/tiny")
    card = json.loads((out / "training.json").read_text())
    assert card["held_out_loss"]["after"]["all"] < card["held_out_loss"]["before"]["all"]
    assert card["merged_against_adapter"] < 1e-5
    assert card["config"]["seed"] == CONFIG.seed
    assert len(card["examples"]["some.jsonl.xz"]) == 64
    assert not (out / "checkpoint.pt").exists()
    read = adapters.read(out)
    assert read.base == "made/tiny"
    model = load_model(base, torch.float32, "cpu")
    before = model.model.layers[0].self_attn.q_proj.weight.clone()
    adapters.merge(read, model)
    assert not torch.equal(before, model.model.layers[0].self_attn.q_proj.weight)


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(base, examples, tmp_path, monkeypatch):
    """Cut after the first checkpoint, the second run counts on from there and ends with as many steps as one run."""
    whole = tmp_path / "whole"
    train.run(CONFIG, base, [examples], whole, "cpu")
    steps = json.loads((whole / "training.json").read_text())["steps"]
    out = tmp_path / "cut"
    kept = train._keep

    def cut(network, optimizer, step, seconds, folder):
        kept(network, optimizer, step, seconds, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_keep", cut)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train.run(CONFIG, base, [examples], out, "cpu")
    assert (out / "checkpoint.pt").exists()
    monkeypatch.undo()
    train.run(CONFIG, base, [examples], out, "cpu")
    assert json.loads((out / "training.json").read_text())["steps"] == steps


def test_training_goes_on_from_another_adapter(base, examples, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train.run(CONFIG, base, [examples], first, "cpu")
    train.run(CONFIG, base, [examples], second, "cpu", initial=first)
    cards = [json.loads((folder / "training.json").read_text()) for folder in (first, second)]
    assert cards[1]["held_out_loss"]["before"]["all"] == pytest.approx(
        cards[0]["held_out_loss"]["after"]["all"], abs=0.02
    )
    assert cards[1]["initial"] is not None


def test_no_question_is_both_held_out_and_learned():
    rows = [packing.Encoded("short", f"question {n % 9}", (n, n + 1), 1) for n in range(90)]
    held, learned = train.parted(rows, train.Config(held_out=3))
    assert len(held) == 3
    assert not {row.about for row in held} & {row.about for row in learned}
    assert {row.about for row in held} | {row.about for row in learned} == {row.about for row in rows}
