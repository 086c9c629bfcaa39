"""What executes attention: Triton's kernels on a GPU that they serve, torch elsewhere."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.contract import Attend, Paged, Plan, Positions
from longleaf.engine.errors import EngineFailed, MissingExtra
from longleaf.engine.pages.shape import PageShape
from longleaf.engine.pages.store import PageStore

_SMALLEST, _LARGEST = 16, 256
_CAPABILITY = (8, 0)
# Of a trial: tokens that there are, that a plan reads, and of a chunk; and the error that half precision may have. What
# is compiled for these sizes serves documents.
_TOKENS, _READ, _CHUNK = 4096, 512, 128
_MOST_ERROR = 2e-2
_log = logging.getLogger(__name__)


def executor(model: Any, store: PageStore, positions: Positions | None = None) -> Attend:
    """What executes attention of `model` over the pages of `store`.

    On a GPU these are Triton's kernels, once a trial has shown that they run there and say what torch says. Where they
    do not serve, and for the layers that they leave to torch, the log says once why.
    """
    if store.device.type != "cuda":
        return TorchAttend()
    config = model.config.get_text_config(decoder=True)
    if (reason := unserved(store.shape, positions)) is not None:
        _say_once(logging.INFO, f"torch and not Triton reads the pages on {store.device}: {reason}")
        return TorchAttend()
    if (reason := _trial(int(config.num_attention_heads), store.shape, store.device)) is not None:
        _say_once(logging.WARNING, f"torch and not Triton reads the pages on {store.device}, more slowly: {reason}")
        return TorchAttend()
    if windows := list(getattr(config, "layer_types", None) or ()).count("sliding_attention"):
        _say_once(logging.INFO, f"torch and not Triton reads the {windows} layers that see a window only")
    from longleaf.engine.attention.triton.attend import TritonAttend

    return TritonAttend()


def unserved(shape: PageShape, positions: Positions | None) -> str | None:
    """Why the kernels cannot read such pages on any GPU; None where they can."""
    if positions is not None:
        return f"keys get their positions ({positions.name}) when they are read, and the kernels take them as they lie"
    if not _SMALLEST <= shape.head_size <= _LARGEST or shape.head_size & (shape.head_size - 1):
        return f"heads have {shape.head_size} numbers, and the kernels know powers of two, {_SMALLEST} to {_LARGEST}"
    if shape.page & (shape.page - 1):
        return f"pages have {shape.page} tokens, and the kernels know powers of two"
    return None


@cache
def _trial(heads: int, shape: PageShape, device: torch.device) -> str | None:
    """Why the kernels do not serve on this GPU: what went wrong when they read a little of everything, if anything."""
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        least = ".".join(map(str, _CAPABILITY))
        return f"{torch.cuda.get_device_name(device)} is older than compute capability {least}"
    try:
        from longleaf.engine.attention.triton.attend import TritonAttend
    except MissingExtra as error:
        return str(error)
    from triton import TritonError

    try:
        errors = list(deviations(TritonAttend(), heads, shape, device))
    except torch.OutOfMemoryError:
        raise  # that is the document's trouble, and no reason to do without kernels later
    except (TritonError, EngineFailed, RuntimeError, ValueError, OSError, subprocess.SubprocessError) as failure:
        # No C compiler, a card that Triton does not know, too little memory on its chip: torch still reads.
        return f"a trial failed ({type(failure).__name__}: {failure})"
    wrong = [error for error in errors if not error <= _MOST_ERROR]
    return f"in a trial they were off by {wrong[0]:.1%}" if wrong else None


def deviations(attend: Attend, heads: int, shape: PageShape, device: torch.device) -> Iterator[float]:
    """Relative errors against torch: of a token that reads a few thousand others, of one that reads some pages of
    them, and of a chunk after a prompt's first tokens."""
    draw = torch.Generator(device).manual_seed(0)
    torchs, scale, page = TorchAttend(), shape.head_size**-0.5, shape.page

    def drawn(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, shape.head_size, generator=draw, device=device).to(shape.dtype)

    logical = _TOKENS // page
    table = torch.arange(logical, 0, -1, dtype=torch.int32, device=device)[None]
    lengths = torch.tensor([_TOKENS - page + 3], dtype=torch.int32, device=device)
    pool = [drawn(logical + 1, shape.kv_heads, page) for _ in range(2)]
    paged, token = Paged(pool[0], pool[1], table, lengths), drawn(1, heads)
    read = torch.arange(logical - _READ // page, logical, dtype=torch.int32, device=device).expand(
        1, shape.kv_heads, -1
    )
    counts = torch.full((1, shape.kv_heads), read.shape[2], dtype=torch.int32, device=device)
    for plan in (None, Plan(read.contiguous(), counts)):
        yield _error(attend.decode(token, paged, plan, scale), torchs.decode(token, paged, plan, scale))
    keys, values = (drawn(1, shape.kv_heads, _CHUNK + page) for _ in range(2))
    chunk = drawn(1, heads, _CHUNK)
    yield _error(attend.prefill(chunk, keys, values, None, scale), torchs.prefill(chunk, keys, values, None, scale))


def _error(found: torch.Tensor, want: torch.Tensor) -> float:
    return float((found.double() - want.double()).norm() / want.double().norm())


@cache
def _say_once(level: int, message: str) -> None:
    _log.log(level, "%s", message)
