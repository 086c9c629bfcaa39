"""Several GPUs that train one adapter: each takes every n-th batch, and all step by the mean gradient."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True, slots=True)
class Crew:
    """This process's place among `size`, as `torchrun` says; alone without it."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: str) -> Crew:
        """Meet the other processes that `torchrun` started, and take a GPU of one's own."""
        if "RANK" not in os.environ:
            return cls()
        if device.startswith("cuda"):
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def average(self, weights: Sequence[torch.Tensor]) -> None:
        """Make every gradient the crew's mean, in place."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = (flat / self.size).split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(
            gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        )

    def agree(self, share: float) -> float:
        """The mean of `share`, the same for all."""
        if self.size == 1:
            return share
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        value = torch.tensor([share], device=device)
        distributed.all_reduce(value)
        return float(value) / self.size

    def leave(self) -> None:
        """Wait for the others and part."""
        if self.size > 1:
            distributed.barrier()
            distributed.destroy_process_group()
