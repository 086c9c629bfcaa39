"""What a reply is told to have read: shares of each layer's heads, whichever layers choose, and as often as they do."""

import pytest
import torch

from longleaf.engine.attention.contract import Plan
from longleaf.engine.attention.reads import Recorder


def plan(*heads):
    """A plan of one row: for each head, pages with the share of the attention each gets."""
    pages = torch.tensor([[list(head) for head in heads]], dtype=torch.int32)
    shares = torch.tensor([[list(head.values()) for head in heads]])
    return Plan(pages, torch.full(pages.shape[:2], pages.shape[2], dtype=torch.int32), shares.log())


def test_a_page_counts_for_what_the_best_head_gave_it_as_the_mean_over_the_steps():
    recorder = Recorder(6, 1, torch.device("cpu"))
    assert recorder.reads(0, 16, 90) == ()
    recorder.note(0, plan({0: 0.9, 2: 0.075, 4: 0.025}, {0: 0.5, 2: 0.1, 3: 0.4}))
    recorder.note(1, plan({1: 0.5, 2: 0.5}))  # heads that share a list, of another length
    recorder.note(0, plan({0: 0.9, 2: 0.025, 4: 0.075}, {0: 0.2, 2: 0.8, 5: 0.0}))
    recorder.note(2, Plan(torch.zeros(1, 1, 1, dtype=torch.int32), torch.ones(1, 1, dtype=torch.int32)))

    reads = recorder.reads(0, 16, 90)
    # The first page is none; layer 0's second head gave page 2 0.2 and 1, and page 3 0.8 and nothing.
    assert {read.start // 16: read.score for read in reads} == pytest.approx({2: 0.6, 1: 0.5, 4: 0.5, 3: 0.4, 5: 0.0})
    assert {read.start // 16: read.often for read in reads} == pytest.approx(
        {2: 1.0, 1: 1 / 3, 4: 1 / 3, 3: 1 / 6, 5: 1 / 6}
    )
    assert reads[0].start == 32
    assert max(read.end for read in reads) == 90
    assert recorder.reads(0, 16, 90) == reads
