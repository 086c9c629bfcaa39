"""Averaging adapters: what the mean adds to the base, and what is recorded of it."""

import json

import pytest
import torch

soup = pytest.importorskip("soup")
train = pytest.importorskip("train")

from longleaf.engine import adapter as adapters  # noqa: E402
from longleaf.engine.loading import load_model  # noqa: E402

LAYER = "model.layers.0.mlp.down_proj"
EIGHT_BITS = 0.05
"""How far, at most, eight bits take a product of two matrices: three bits of fraction are 6% of a number at worst."""


@pytest.fixture
def parts(base, tmp_path_factory):
    """Two adapters of rank 2 with random weights, one of which scales them otherwise."""
    folders = []
    for seed, alpha in ((1, 4), (2, 6)):
        torch.manual_seed(seed)
        network = train.adapted(load_model(base, torch.float32, "cpu"), train.Config(rank=2, alpha=alpha), None)
        for name, weight in network.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.1)
        folder = tmp_path_factory.mktemp("parts")
        train.save(network, folder, "made/tiny")
        folders.append(folder)
    return folders


def added(base, folder):
    """What an adapter adds to one layer of the base, as the engine merges it."""
    model = load_model(base, torch.float32, "cpu")
    weight = model.get_submodule(LAYER).weight
    before = weight.detach().clone()
    adapters.merge(adapters.read(folder), model)
    return weight.detach() - before


def apart(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def test_the_mean_of_adapters_adds_the_mean_of_what_they_add(base, parts, tmp_path):
    soup.run(base, parts, tmp_path / "soup", rank=4, name="made/tiny")
    wanted = (added(base, parts[0]) + added(base, parts[1])) / 2
    assert apart(added(base, tmp_path / "soup"), wanted) < EIGHT_BITS
    assert adapters.read(tmp_path / "soup").base == "made/tiny"


def test_one_can_weigh_more_than_another(base, parts, tmp_path):
    soup.run(base, parts, tmp_path / "soup", rank=4, weights=[0.75, 0.25])
    wanted = 0.75 * added(base, parts[0]) + 0.25 * added(base, parts[1])
    assert apart(added(base, tmp_path / "soup"), wanted) < EIGHT_BITS


def test_what_is_cut_to_a_rank_is_the_nearest_of_that_rank(base, parts, tmp_path):
    soup.run(base, parts, tmp_path / "soup", rank=3)
    mean = (added(base, parts[0]) + added(base, parts[1])) / 2
    found = added(base, tmp_path / "soup")
    least = float(torch.linalg.svdvals(mean)[3:].norm() / mean.norm())
    assert adapters.read(tmp_path / "soup").rank == 3
    assert least <= apart(found, mean) < least + EIGHT_BITS


def test_small_and_large_weights_are_kept_equally_well(base, parts, tmp_path):
    """Eight bits have a narrow range: what is learned at a low rate must not fall below it."""
    from safetensors.torch import load_file, save_file

    for side, factor in (("lora_A", 1e-3), ("lora_B", 1e-1)):
        for folder in parts:
            tensors = load_file(folder / train.WEIGHTS)
            save_file({n: t * factor if side in n else t for n, t in tensors.items()}, folder / train.WEIGHTS)
    soup.run(base, parts, tmp_path / "soup", rank=4)
    wanted = (added(base, parts[0]) + added(base, parts[1])) / 2
    assert apart(added(base, tmp_path / "soup"), wanted) < EIGHT_BITS


def test_it_is_kept_in_eight_bits_that_peft_reads(base, parts, tmp_path):
    from peft import PeftModel
    from safetensors.torch import load_file

    soup.run(base, parts, tmp_path / "soup", rank=4)
    kept = load_file(tmp_path / "soup" / train.WEIGHTS)
    assert {tensor.dtype for tensor in kept.values()} == {torch.float8_e4m3fn}
    plain = load_model(base, torch.float32, "cpu")
    before = plain.get_submodule(LAYER).weight.detach().clone()
    merged = PeftModel.from_pretrained(plain, str(tmp_path / "soup")).merge_and_unload()
    theirs = merged.get_submodule(LAYER).weight.detach() - before
    assert torch.allclose(theirs, added(base, tmp_path / "soup"), atol=1e-6)


def test_the_card_names_what_went_in(base, parts, tmp_path):
    (parts[0] / "training.json").write_text('{"config": {"rate": 0.5}}')
    soup.run(base, parts, tmp_path / "soup", rank=4)
    card = json.loads((tmp_path / "soup" / "training.json").read_text())
    assert [part["weight"] for part in card["parts"]] == [0.5, 0.5]
    assert card["parts"][0]["training"] == {"config": {"rate": 0.5}}
    assert card["parts"][1]["training"] is None
    assert len({part["sha256"] for part in card["parts"]}) == 2
    assert card["merged_against_adapter"] < 1e-4


def test_a_weight_for_each_is_asked_for(base, parts, tmp_path):
    with pytest.raises(SystemExit, match="3 numbers for 2 adapters"):
        soup.run(base, parts, tmp_path / "soup", weights=[1, 2, 3])
