"""A device's memory: what tokens take of it, what there is for them, and how its end is told."""

from __future__ import annotations

from typing import Any

import torch


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Bytes that keys and values of a token take in all layers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * dtype.itemsize)


def memory_for_batches(device: str) -> int:
    """Bytes for keys and values of one batch: two GiB on a CPU, a third of what is free on a GPU."""
    if not device.startswith("cuda"):
        return 2 << 30
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) // 3


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU was full. Where other processes fill it, cuBLAS and cuDNN say so in words of their own."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in told for words in ("ALLOC_FAILED", "out of memory", "mha_graph.execute", "mha_graph->execute")
    )


def empty_device_cache() -> None:
    """Give memory back that PyTorch holds on GPUs and does not use."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
