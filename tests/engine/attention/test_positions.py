"""Where tokens beyond the window are seen."""

import pytest
import tiny_models as tiny
import torch

from longleaf.engine.attention.head_kinds import far_heads, load_scores, save_scores, score_heads
from longleaf.engine.attention.positions.clipped import Clipped
from longleaf.engine.attention.positions.dimensions import DimensionWise
from longleaf.engine.attention.positions.dual_chunk import DualChunk
from longleaf.engine.attention.positions.packed import Packed
from longleaf.engine.attention.positions.self_extend import SelfExtend
from longleaf.engine.attention.rotation import frequencies_of, rotate
from longleaf.engine.errors import EngineFailed

SLOW_AND_FAST = torch.tensor([1.0, 1e-5])


def seen(positions, start, *tokens):
    return positions.distance(torch.tensor([start]), torch.tensor(tokens), SLOW_AND_FAST).squeeze(-1).tolist()


def test_near_tokens_are_where_they_are():
    for positions in (Clipped(64), SelfExtend(64, 8), DualChunk(256, 64), DimensionWise(64, 512, 4096)):
        near = positions.distance(torch.tensor([900]), torch.tensor([899, 860, 905]), SLOW_AND_FAST)
        assert near[:, 0].tolist() == [1, 40, -5]


def test_far_tokens_are_where_each_technique_says():
    assert seen(Clipped(64), 900, 836, 500, 0) == [64, 64, 64]
    # 900 // 8 - 100 // 8 groups, from the window's end on.
    assert seen(SelfExtend(64, 8), 900, 100) == [112 - 12 + 64 - 8]
    assert seen(DualChunk(256, 64), 900, 700, 5) == [320 - 700 % 256, 320 - 5]
    fast, slow = DimensionWise(64, 512, 4096).distance(torch.tensor([4096]), torch.tensor([0]), SLOW_AND_FAST)[0]
    assert (fast, round(float(slow))) == (4096, 512)


def test_tokens_that_are_not_read_take_no_place():
    assert seen(Packed(), 900, 896, 897, 898, 899) == [4, 3, 2, 1]
    assert seen(Packed(), 900, 0, 1, 500, 899) == [4, 3, 2, 1]
    assert seen(Packed(), 900, 0, 1, 500, 902) == [1, 0, -1, -2]  # within the block that begins at 900
    assert seen(Packed(), 900, 500, 501, 899, 0)[:3] == [3, 2, 1]  # a short list repeats its first page


@pytest.mark.parametrize(
    "positions", [Clipped(64), SelfExtend(64, 8), DualChunk(256, 64)], ids=lambda positions: positions.name
)
def test_no_distance_is_longer_than_it_was_trained(positions):
    start, tokens = torch.tensor([1999]), torch.arange(1999)
    assert positions.distance(start, tokens, SLOW_AND_FAST).max() <= {"self_extend": 307}.get(positions.name, 320)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_keys_are_turned_as_the_model_turns_them(architecture):
    network = tiny.model(architecture)
    kinds = frequencies_of(network)
    kind = "full_attention" if "full_attention" in kinds else ""
    rotary = network.get_decoder().rotary_emb
    places = torch.arange(300)[None]
    given = (places, "full_attention") if kind else (places,)
    cosine, sine = rotary(torch.zeros(1), *given)
    keys = torch.randn(1, 2, 300, 8)
    half = torch.cat([-keys[..., 4:], keys[..., :4]], dim=-1)

    turned = rotate(keys, places[0, :, None] * kinds[kind])
    assert torch.allclose(turned, keys * cosine[:, None] + half * sine[:, None], atol=1e-4)


def test_heads_are_scored_and_kept_for_their_model(tmp_path):
    scores = score_heads(tiny.model("gemma3"), period=24)
    far = far_heads(scores, 0.5)
    save_scores(tmp_path / "heads.json", scores, "a")

    assert set(scores) == {(layer, head) for layer in (1, 2) for head in (0, 1)}  # layer 0 has a sliding window
    assert all(0 <= score <= 1 for score in scores.values())
    assert len(far) == 2
    assert min(scores[head] for head in far) >= max(scores[head] for head in scores if head not in far)
    assert load_scores(tmp_path / "heads.json", "a") == scores
    with pytest.raises(EngineFailed, match="model a, not b"):
        load_scores(tmp_path / "heads.json", "b")
    (tmp_path / "heads.json").write_text("{")
    with pytest.raises(EngineFailed, match="cannot be read"):
        load_scores(tmp_path / "heads.json", "a")
