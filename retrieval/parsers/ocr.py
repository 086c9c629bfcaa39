"""Reading pictures of text: PDF pages without characters, by RapidOCR (its wheel holds models)."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from statistics import median_low
from typing import Any, Final

from longleaf.engine.errors import MissingExtra
from longleaf.retrieval.parsers.job import Job
from longleaf.retrieval.parsers.line import Line, join_rows

DOTS: Final = 200
"""Dots an inch at which pages are drawn; body text of 10 points is then 28 dots high."""
LARGEST: Final = 4000
"""Dots of the longer side at most, however large the page says it is."""
POINTS: Final = 72
TALL: Final = 1.3
"""Height of the box around a line, in font sizes."""


def load_engine(job: Job) -> Any:
    """RapidOCR with its models, in a second or two. Raises `MissingExtra` when it is not installed."""
    try:
        rapidocr = import_module("rapidocr")
        engine = rapidocr.RapidOCR()
    except ImportError as error:
        raise MissingExtra(
            f"{job.name}: reading pictures of text needs RapidOCR ({error}). Run: pip install 'longleaf[ocr]'"
        ) from error
    logging.getLogger("RapidOCR").setLevel(logging.WARNING)
    return engine


def recognise(engine: Any, page: Any) -> list[Line]:
    """The lines that `engine` sees on a pypdfium2 page. Takes seconds."""
    width, height = page.get_size()
    scale = min(DOTS / POINTS, LARGEST / max(width, height, 1.0))
    result = engine(page.render(scale=scale).to_numpy())
    lines = []
    for text, box in zip(result.txts or (), result.boxes if result.boxes is not None else (), strict=True):
        across, down = [float(point[0]) / scale for point in box], [float(point[1]) / scale for point in box]
        tall = max(down) - min(down)
        lines.append(Line(text, min(across), max(across), height - max(down) + 0.2 * tall, round(tall / TALL)))
    return join_rows(_even(lines))


def _even(lines: list[Line]) -> list[Line]:
    """The lines, with sizes near the median made equal: a box is tall or low by its letters."""
    usual = median_low(line.size for line in lines) if lines else 0.0
    return [replace(line, size=usual) if abs(line.size - usual) < 0.25 * usual else line for line in lines]
