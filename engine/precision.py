"""Chooses the number format a model runs in, by measuring the device at hand.

bfloat16 halves the memory read per token and is twice as fast where the processor computes in it; where it
does not, it is emulated and several times slower. The processor's name does not say which, a few
multiplications do. A busy machine may tell otherwise from one time to the next, and what is kept of a
document was computed in one format: so the first measurement is kept beside the model.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import time
from pathlib import Path

import torch

FILE_NAME = "longleaf-dtype.json"

_log = logging.getLogger(__name__)

# bfloat16 must be clearly faster to be worth its rounding.
CLEARLY_FASTER = 0.9
_ROUNDS = 16


def faster_dtype(device: str, hidden: int, tokens: tuple[int, ...] = (256, 1)) -> torch.dtype:
    """The faster of float32 and bfloat16 on `device` for a model `hidden` wide; float32 where it is close.

    Takes some tenths of a second. `tokens` are the sizes of step that count, alike: by default prefill (many
    tokens) and decode (one token, bound by memory).
    """
    ratios = [_ratio(device, step, hidden) for step in tokens]
    return torch.bfloat16 if math.prod(ratios) ** 0.5 < CLEARLY_FASTER else torch.float32


def settled_dtype(model: Path, device: str, hidden: int) -> torch.dtype:
    """What `faster_dtype` said when the model in `model`, a folder or a file, was first opened on this kind of machine.

    It is measured anew where that cannot be read, and each time where it cannot be written.
    """
    path = model.with_suffix(f".{FILE_NAME}") if model.is_file() else model / FILE_NAME
    place = _place(device)
    known = _read(path)
    if (name := known.get(place)) in ("float32", "bfloat16"):
        return torch.float32 if name == "float32" else torch.bfloat16
    found = faster_dtype(device, hidden)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        scratch.write_text(json.dumps(known | {place: str(found).removeprefix("torch.")}, indent=2) + "\n")
        scratch.replace(path)
    except OSError as error:
        _log.info("the number format measured for %s cannot be kept in %s: %s", model.name, path.parent, error)
    return found


def _place(device: str) -> str:
    """What decides how fast a format is: the card, or the processor and what PyTorch uses of it."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = named[0].partition(":")[2].strip() if named else processor
    return f"{processor}, {torch.backends.cpu.get_cpu_capability()}, PyTorch {torch.__version__}"


def _read(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read (%s); the number format is measured again", path, error)
        return {}
    return known if isinstance(known, dict) else {}


def _ratio(device: str, tokens: int, hidden: int) -> float:
    """Seconds of bfloat16 by those of float32. They take turns, so that other work on the machine slows both."""
    # One token against a small matrix would be served from the processor's cache and say nothing of memory.
    columns = 4 * hidden if tokens > 1 else max(4 * hidden, 8_000_000 // hidden)
    pairs = [
        (
            torch.ones(tokens, hidden, dtype=dtype, device=device),
            torch.ones(columns, hidden, dtype=dtype, device=device),
        )
        for dtype in (torch.bfloat16, torch.float32)
    ]
    seconds = [[_once(*pair) for pair in pairs] for _ in range(_ROUNDS)]
    return min(half for half, _ in seconds) / min(full for _, full in seconds)


def _once(left: torch.Tensor, right: torch.Tensor) -> float:
    _wait(left)
    start = time.perf_counter()
    torch.nn.functional.linear(left, right)
    _wait(left)
    return time.perf_counter() - start


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
