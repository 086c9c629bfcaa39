"""Keys moved to other positions equal keys computed there."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from longleaf.engine.pages.rotate import rerotate


@pytest.mark.parametrize("shift", [-300, -1, 0, 1, 5000])
def test_equals_keys_computed_at_the_new_position(shift):
    rotary = LlamaRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=2, head_dim=32))
    plain = torch.randn(1, 2, 40, 32)
    positions = torch.arange(1000, 1040)[None]

    def at(where):
        cosine, sine = rotary(plain, where)
        return apply_rotary_pos_emb(plain, plain, cosine, sine)[1]

    moved = rerotate(at(positions), shift, rotary.inv_freq)
    torch.testing.assert_close(moved, at(positions + shift), rtol=0, atol=2e-3 if shift == 5000 else 5e-4)


def test_leaves_what_is_not_rotated():
    keys = torch.randn(3, 8)
    moved = rerotate(keys, 7, torch.tensor([1.0, 0.1]))
    assert torch.equal(moved[:, 4:], keys[:, 4:])
    assert not torch.equal(moved[:, :4], keys[:, :4])
