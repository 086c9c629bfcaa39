"""From scores to plans, whatever the lengths and budgets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.engine.attention.selection import Budget, renewed, select

PAGE = 16


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 400), min_size=1, max_size=3),
    tokens=st.integers(1, 500),
    sinks=st.integers(0, 40),
    recent=st.integers(1, 90),
    mass=st.sampled_from([1.0, 0.9, 0.3]),
    seed=st.integers(0, 9),
)
def test_a_plan_is_in_order_within_its_budget_and_holds_what_is_always_read(lengths, tokens, sinks, recent, mass, seed):
    budget = Budget(tokens, sinks, recent, mass)
    logical = max(1, -(-max(lengths) // PAGE))
    scores = torch.randn(len(lengths), 2, logical, generator=torch.Generator().manual_seed(seed)) * 4
    plan = select(scores, torch.tensor(lengths), PAGE, budget)

    assert plan.pages.shape[-1] <= budget.pages(PAGE)
    for row, length in enumerate(lengths):
        exists = -(-length // PAGE)
        always = set(range(min(exists, -(-sinks // PAGE))))
        if length:
            always |= set(range(max(0, length - recent) // PAGE, exists))
        for head in range(2):
            pages = plan.pages[row, head].tolist()
            real = pages[: plan.counts[row, head]]
            assert real == sorted(set(real))
            assert set(pages[len(real) :]) <= {-1}
            assert always <= set(real) <= set(range(exists))
            wanted = torch.tensor([scores[row, head, page] for page in real])
            assert torch.equal(plan.scores[row, head, : len(real)], wanted)


def test_mass_takes_no_more_pages_than_hold_it():
    scores = torch.tensor([0.5, 0.3, 0.1, 0.06, 0.04]).log()[None, None]
    plan = select(scores, torch.tensor([5 * PAGE]), PAGE, Budget(5 * PAGE, 0, 1, mass=0.75))

    # The newest two are read in any case, and with the first two they hold enough.
    assert plan.pages[0, 0].tolist() == [0, 1, 3, 4, -1]


def test_rows_that_do_not_choose_keep_their_lists():
    old = select(torch.randn(2, 1, 6), torch.full((2,), 96), PAGE, Budget(48, 0, 1))
    new = select(torch.randn(2, 1, 9), torch.full((2,), 144), PAGE, Budget(96, 0, 1))
    both = renewed(old, new, [False, True])

    assert both.pages[0, 0].tolist() == [*old.pages[0, 0].tolist(), -1, -1, -1]
    assert torch.equal(both.pages[1], new.pages[1])
    assert both.counts[:, 0].tolist() == [3, 6]


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"recent": 0}, {"mass": 0.0}, {"mass": 1.1}])
def test_a_budget_that_reads_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=r"tokens|mass"):
        Budget(**wrong)
