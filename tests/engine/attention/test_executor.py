"""What executes attention where: the kernels are for a GPU, and the log says once what they are not for."""

import logging

import pytest
import tiny_models as tiny
import torch

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.executor import deviations, executor, unserved
from longleaf.engine.attention.positions.clipped import Clipped
from longleaf.engine.attention.runner import shape_of
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore


class OnGPU:
    """A store as it looks from here, on a GPU that this machine need not have."""

    device = torch.device("cuda", 0)

    def __init__(self, shape):
        self.shape = shape


def test_a_cpu_is_torchs_and_nothing_is_said(caplog):
    model = tiny.model("llama")
    assert isinstance(executor(model, PageStore(shape_of(model, tiny.PAGE))), TorchAttend)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("shape", "positions", "says"),
    [
        (PageShape(2, 2, 64, 32), Clipped(64), "positions (clipped)"),
        (PageShape(2, 2, 96, 32), None, "heads have 96 numbers"),
        (PageShape(2, 2, 8, 32), None, "heads have 8 numbers"),
        (PageShape(2, 2, 512, 32), None, "heads have 512 numbers"),
        (PageShape(2, 2, 64, 48), None, "pages have 48 tokens"),
    ],
)
def test_what_the_kernels_cannot_read_is_torchs_and_said_once(shape, positions, says, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert isinstance(executor(tiny.model("llama"), OnGPU(shape), positions), TorchAttend)
    assert says in unserved(shape, positions)
    assert [says in record.message for record in caplog.records] == [True]


def test_pages_of_common_models_are_the_kernels():
    for size in (16, 64, 128, 256):
        assert unserved(PageShape(2, 2, size, 32), None) is None


class Wrong(TorchAttend):
    def decode(self, query, paged, plan, scale):
        return super().decode(query, paged, plan, scale * 1.2)


def test_a_trial_tells_what_reads_wrongly():
    shape = PageShape(2, 2, 64, 32, torch.float32)
    assert list(deviations(TorchAttend(), 6, shape, torch.device("cpu"))) == [0, 0, 0]
    *tokens, chunk = deviations(Wrong(), 6, shape, torch.device("cpu"))
    assert min(tokens) > 0.02
    assert chunk == 0
