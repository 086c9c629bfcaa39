"""A choice of pages that serves several steps (LServe, Yang et al., MLSys 2025, arXiv:2502.14866)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from longleaf.engine.attention.contract import BlockMask, Chunk, Plan, Policy, Step, Technique
from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.selection import EVERYTHING, renewed


@dataclass(frozen=True, slots=True)
class Reused:
    """Lets `policy` choose every `steps` steps (LServe: 4), and for a row that begins a page: the newest is read."""

    policy: Policy = field(default_factory=quest)
    steps: int = 4

    @property
    def name(self) -> str:
        return f"{self.policy.name}/{self.steps}"

    @property
    def reads_keys(self) -> bool:
        return bool(getattr(self.policy, "reads_keys", False))

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        return self.policy.prefill(query, keys, chunk)

    def decode(self, query: torch.Tensor, step: Step) -> Plan | None:
        pages = [-(-held // step.paged.page) for held in step.held]
        kept: tuple[list[int], list[int], Plan | None] | None = step.state.get("reused")
        if kept is None:
            chosen, ages, plan = [True] * len(pages), [0] * len(pages), None
        else:
            before, ages, plan = kept
            chosen = [age >= self.steps or now != then for age, now, then in zip(ages, pages, before, strict=True)]
        if any(chosen):
            new = self.policy.decode(query, step)
            plan = new if new is None or plan is None else renewed(plan, new, chosen)
        ages = [1 if again else age + 1 for again, age in zip(chosen, ages, strict=True)]
        step.state["reused"] = (pages, ages, plan)
        return plan


TECHNIQUE = Technique(
    name="reused",
    axis="decode",
    paper="LServe: Yang et al., MLSys 2025, arXiv:2502.14866",
    cost="a choice every few steps",
    build=Reused,
    everything={"policy": quest(EVERYTHING, dense_layers=0)},
)
