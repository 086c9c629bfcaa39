"""What the sections of `kv_gpu.py` share: the shape of Llama-3-8B, times, checks, and a report of it all."""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import triton

HEADS, KV_HEADS, HEAD, LAYERS = 32, 8, 128, 32
GROUP, SCALE = HEADS // KV_HEADS, HEAD**-0.5
BUDGET = 2048
BF16 = torch.bfloat16
CARD = torch.device("cuda")
K = 1024


@dataclass
class Report:
    """Rows of each table, written to disk as they come."""

    out: Path | None
    bandwidth: float = 0.0  # bytes a second of a copy, read and written
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def add(self, table: str, **row: Any) -> None:
        self.tables.setdefault(table, []).append(row)
        print(f"[{self.seconds():5.0f} s] {table}: " + ", ".join(f"{k} {_cell(v)}" for k, v in row.items()), flush=True)
        self.write()

    def note(self, **facts: Any) -> None:
        self.facts |= facts
        print(f"[{self.seconds():5.0f} s] {facts}", flush=True)
        self.write()

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def write(self) -> None:
        if self.out:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps({"facts": self.facts, "tables": self.tables}, indent=1, default=str))

    def markdown(self) -> str:
        parts = []
        for name, rows in self.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            parts.append(f"\n### {name}\n\n| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
            parts += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows]
        return "\n".join(parts)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 1e-2 else f"{value:.2f}"
    return str(value)


def error(found: torch.Tensor, reference: torch.Tensor) -> float:
    return float((found.double() - reference.double()).norm() / reference.double().norm())


def demand(what: str, value: float, most: float = 1e-2) -> float:
    """Raises where an error is too large; NaN is."""
    if not value <= most:
        raise AssertionError(f"{what}: relative error {value:.3e} is above {most}")
    return value


def poison() -> None:
    """Leaves NaN in the memory that results are about to get, so that a number nobody wrote shows."""
    stale = [torch.full((size,), math.nan, device=CARD) for size in (1 << 10, 1 << 14, 1 << 17, 1 << 21, 1 << 24) * 4]
    del stale


def release() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def graphed(function: Callable[[], Any]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def microseconds(function: Callable[[], Any], *, graph: bool = True, each: int = 1) -> float:
    """Median time with the L2 cache emptied before each run, of a graph's replay unless told otherwise."""
    run = graphed(function) if graph else function
    return float(triton.testing.do_bench(run, warmup=10, rep=60, return_mode="median")) * 1e3 / each


def copy_bandwidth() -> float:
    source = torch.randn(1 << 30, device=CARD, dtype=BF16)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (microseconds(lambda: target.copy_(source), graph=False) * 1e-6)
