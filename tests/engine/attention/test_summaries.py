"""What summaries estimate, against what they estimate it of."""

import pytest
import torch

from longleaf.engine.attention.summary.directions import directions
from longleaf.engine.attention.summary.gaussian import Gaussian
from longleaf.engine.attention.summary.join import joined
from longleaf.engine.attention.summary.lowrank import LowRank
from longleaf.engine.attention.summary.mean import Mean
from longleaf.engine.attention.summary.minmax import MinMax
from longleaf.engine.attention.summary.twolevel import TwoLevel

PAGE, SIZE, PAGES = 32, 16, 12


def keys_of_low_rank(rank, seed=0):
    """Pages `[physical, 2, PAGE, SIZE]` whose keys vary along `rank` directions."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(PAGES + 1, 2, 1, SIZE, generator=generator)
    along = torch.randn(PAGES + 1, 2, rank, SIZE, generator=generator)
    return middle + torch.randn(PAGES + 1, 2, PAGE, rank, generator=generator) @ along / rank**0.5


def scored(summary, keys, query, filled=PAGE):
    buffer = torch.zeros(PAGES + 1, 2, summary.width(PAGE, SIZE))
    summary.update(buffer, keys, torch.arange(1, PAGES + 1), torch.full((PAGES,), filled, dtype=torch.int32))
    table = torch.arange(1, PAGES + 1, dtype=torch.int32)[None]
    return summary.score(query, buffer, table, torch.tensor([PAGES * PAGE]), 0.5)[0]


def one_query(seed=1):
    """The same query for every head, so that joining a group changes nothing."""
    return torch.randn(1, 1, SIZE, generator=torch.Generator().manual_seed(seed)).expand(1, 4, SIZE)


def logits(keys, query, filled=PAGE):
    return (keys[1:, :, :filled] @ query[0, 0]).transpose(0, 1) * 0.5


@pytest.mark.parametrize("filled", [PAGE, 11])
def test_low_rank_keys_give_their_exact_mass(filled):
    keys, query = keys_of_low_rank(4), one_query()
    exact = logits(keys, query, filled).logsumexp(dim=-1)

    assert torch.allclose(scored(LowRank(4, join="max"), keys, query, filled), exact, atol=2e-3)


def test_a_gaussian_estimates_the_mass_of_normal_keys():
    keys, query = keys_of_low_rank(SIZE), one_query() * 0.5
    exact = logits(keys, query).logsumexp(dim=-1)

    error = scored(Gaussian(4, join="max"), keys, query) - exact
    assert error.abs().mean() < 0.15
    assert error.abs().mean() < (scored(Mean(), keys, query) - exact).abs().mean()


@pytest.mark.parametrize("filled", [PAGE, 11])
def test_minmax_bounds_every_logit(filled):
    keys, query = keys_of_low_rank(SIZE), one_query()

    assert (scored(MinMax(), keys, query, filled) >= logits(keys, query, filled).amax(dim=-1) - 1e-5).all()


def test_two_levels_rank_refined_pages_by_their_best_part_and_the_rest_behind():
    keys, query = keys_of_low_rank(SIZE), one_query()
    summary = TwoLevel(Mean(), MinMax(), parts=4, refined=5)
    both = scored(summary, keys, query)
    coarse = scored(Mean(), keys, query)
    parts = keys.unflatten(2, (4, PAGE // 4)).transpose(1, 2).flatten(0, 1)
    q = query[0, 0] * 0.5
    upper = torch.maximum(parts.amax(2) * q, parts.amin(2) * q).sum(-1).unflatten(0, (PAGES + 1, 4)).amax(1)[1:].T

    best = coarse.topk(5, dim=-1).indices
    assert torch.allclose(both.gather(1, best), upper.gather(1, best), atol=1e-4)
    behind = both.scatter(1, best, float("-inf"))
    assert (behind.amax(1) < both.gather(1, best).amin(1)).all()
    assert torch.equal(behind.topk(7, dim=-1).indices, coarse.scatter(1, best, float("-inf")).topk(7).indices)


def test_directions_are_orthonormal_and_hold_the_most():
    keys = torch.randn(5, PAGE, 3, generator=torch.Generator().manual_seed(2)) @ torch.diag(torch.tensor([9.0, 5.0, 2]))
    basis = directions(torch.nn.functional.pad(keys, (0, SIZE - 3)), 3)

    assert torch.allclose(basis @ basis.mT, torch.eye(3).expand(5, 3, 3), atol=1e-4)
    assert basis[..., 3:].abs().max() < 1e-5
    assert directions(torch.zeros(1, PAGE, SIZE), 2).abs().max() == 0


def test_a_head_with_large_logits_does_not_outvote_the_others_by_nrm():
    scores = torch.tensor([[[[50.0, 48.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0]]]])
    table = torch.tensor([[1, 2, 3, 4]])

    assert joined(scores, table, "max").topk(2).indices.tolist() == [[[0, 1]]]
    assert set(joined(scores, table, "nrm").topk(2).indices.flatten().tolist()) == {0, 2}
    shares = joined(scores, table, "share")[0, 0].exp()
    assert torch.allclose(shares, scores[0, 0].softmax(dim=-1).amax(dim=0))
    assert joined(scores, torch.tensor([[1, 2, 0, 0]]), "nrm")[0, 0, 2:].tolist() == [float("-inf")] * 2
    with pytest.raises(ValueError, match="max, nrm or share"):
        joined(scores, table, "mean")
