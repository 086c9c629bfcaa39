"""Sparse attention on one GPU: kernels, a decode step, prefill, a million tokens, answers that stay right, documents.

Run `pip install --no-deps . && python bench/kv_gpu.py --out kv_gpu.json` in the root. Each section checks its results
against float32 before it times anything, and goes on when another fails. The models of `step`, `prefill` and `million`
have the shape of Llama-3-8B and random weights, and their keys and values are random: they measure speed alone.
`quality` and `documents` need a trained model (`--model FOLDER`, SmolLM2).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import triton
from gpu_decode import kernels
from gpu_documents import documents
from gpu_million import million
from gpu_needles import quality
from gpu_prefill import prompts
from gpu_report import K, Report, copy_bandwidth, release
from gpu_step import Models, decode_step

SECTIONS = ("kernels", "step", "prefill", "million", "quality", "documents")


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of " + ", ".join(SECTIONS))
    parser.add_argument("--out", type=Path, help="JSON of everything measured")
    parser.add_argument("--model", type=Path, help="folder of a trained model, for quality and documents")
    parser.add_argument("--mode", default="default", help="mode of torch.compile for the decode step")
    parser.add_argument("--flex", action="store_true", help="FlexAttention among the dense baselines (compiles long)")
    parser.add_argument("--prefill-tokens", type=int, default=128 * K)
    parser.add_argument("--million-tokens", type=int, default=1_000_000)
    parser.add_argument("--host-seconds", type=float, default=90, help="stop pinning host memory after this long")
    parser.add_argument("--trials", type=int, default=10, help="needles for each length")
    parser.add_argument("--needle-tokens", default="2000,4000,8000", help="lengths of the needles' texts")
    parser.add_argument("--document-tokens", type=int, default=8000, help="length of the document that is kept")
    parser.add_argument("--seconds", type=float, default=340, help="begin no section after this long")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    if not torch.cuda.is_available():
        print("this bench needs a GPU that torch can use", file=sys.stderr)
        return 2
    report = Report(options.out)
    models = Models(options.mode)
    report.bandwidth = copy_bandwidth()
    report.note(
        card=torch.cuda.get_device_name(),
        torch=torch.__version__,
        triton=triton.__version__,
        copy_tb_s=report.bandwidth / 1e12,
    )
    release()
    run: dict[str, Callable[[], None]] = {
        "kernels": lambda: kernels(report, options),
        "step": lambda: decode_step(report, options, models),
        "prefill": lambda: prompts(report, options, models),
        "million": lambda: million(report, options, models),
        "quality": lambda: quality(report, options),
        "documents": lambda: documents(report, options),
    }
    failed = []
    for name in options.sections.split(","):
        if report.seconds() > options.seconds:
            failed.append(f"{name} (no time left)")
            continue
        begun = time.perf_counter()
        try:
            run[name]()
        except Exception:  # noqa: BLE001 - the other sections go on
            traceback.print_exc()
            failed.append(name)
        report.note(**{f"{name}_s": round(time.perf_counter() - begun, 1)})
        models.free()
        release()
    report.note(failed=failed, seconds=round(report.seconds(), 1))
    print(report.markdown(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
