"""The number format that a machine is faster in is measured once, or what is kept of a document would not be found."""

import logging

import pytest
import torch

from longleaf.engine import precision
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.precision import FILE_NAME, faster_dtype, settled_dtype


@pytest.fixture
def measured(monkeypatch):
    """What the next measurements say, the first of them first."""
    said = []
    monkeypatch.setattr(precision, "faster_dtype", lambda *_: said.pop(0))
    return said


def test_what_was_measured_first_stands_though_the_machine_is_busy_later(tmp_path, measured):
    measured += [torch.bfloat16, torch.float32]
    assert [settled_dtype(tmp_path, "cpu", 32) for _ in range(3)] == [torch.bfloat16] * 3
    assert measured == [torch.float32]


def test_each_kind_of_machine_has_its_own(tmp_path, measured, monkeypatch):
    measured += [torch.bfloat16, torch.float32]
    assert settled_dtype(tmp_path, "cpu", 32) == torch.bfloat16
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert [settled_dtype(tmp_path, "cpu", 32) for _ in range(2)] == [torch.float32] * 2
    monkeypatch.undo()
    assert settled_dtype(tmp_path, "cpu", 32) == torch.bfloat16


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_damaged_note_is_made_anew(tmp_path, measured, content):
    (tmp_path / FILE_NAME).write_text(content)
    measured.append(torch.float32)
    assert [settled_dtype(tmp_path, "cpu", 32) for _ in range(2)] == [torch.float32] * 2


def test_a_folder_that_cannot_be_written_is_measured_each_time(tmp_path, measured, caplog):
    measured += [torch.float32, torch.bfloat16]
    (tmp_path / "folder").write_text("a file where a folder is wanted")
    with caplog.at_level(logging.INFO):
        assert settled_dtype(tmp_path / "folder" / "model", "cpu", 32) == torch.float32
        assert settled_dtype(tmp_path / "folder" / "model", "cpu", 32) == torch.bfloat16
    assert "cannot be kept" in caplog.text


def test_a_model_is_opened_in_it(tiny_model, tmp_path):
    dtype = TorchEngine.open(tiny_model, device="cpu").card.dtype
    assert f"torch.{dtype}" == str(settled_dtype(tiny_model, "cpu", 32))
    assert (tiny_model / FILE_NAME).exists()
    assert faster_dtype("cpu", 32) in (torch.float32, torch.bfloat16)
