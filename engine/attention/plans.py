"""`ReadingPlan`: which techniques read a document and answer from it, under a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from longleaf.engine.attention.contract import Policy, Positions, Summary
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.policies.infllm import InfLLM
from longleaf.engine.attention.policies.page_mass import page_mass
from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.positions.packed import Packed
from longleaf.engine.attention.runner import summary_of
from longleaf.engine.attention.selection import Budget
from longleaf.engine.pages.fingerprint import Fingerprint
from longleaf.engine.pages.quantise import Format
from longleaf.engine.pages.store import PageStore


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """`reading` says what a prompt reads of what comes before it, `answering` what a reply does.

    With `positions` keys are stored without theirs, and a document may be longer than the model's window.
    """

    name: str
    reading: Policy = field(default_factory=Dense)
    answering: Policy = field(default_factory=Dense)
    positions: Positions | None = None

    @property
    def summary(self) -> Summary | None:
        """What pages are described by, where any of the policies chooses by that."""
        return summary_of(self.answering) or summary_of(self.reading)

    def fingerprint(self, model: str, tokenizer: str, store: PageStore, stored: Format = "exact") -> Fingerprint:
        """What keys and values that this plan makes depend on; `model` and `tokenizer` are digests."""
        return Fingerprint(
            model,
            tokenizer,
            str(store.shape.dtype),
            "the model's" if self.positions is None else f"given when read: {self.positions.name}",
            repr(self.reading),
            store.shape.page,
            stored,
        )


def plan_named(name: str, window: int, *, budget: int = 512) -> ReadingPlan:
    """A plan for a model that holds `window` tokens; replies read `budget` tokens a step, where they choose.

    `dense`: everything. `quest`, `page_mass`: the document is read exactly, replies choose pages. `infllm`: any length;
    a window, and pages that are fetched from all before it, one behind another. Raises `ValueError` for
    another name.
    """
    if name not in _PLANS:
        raise ValueError(f"no plan {name!r} for reading a document; there are {', '.join(_PLANS)}")
    return _PLANS[name](window, budget)


def _infllm(window: int, budget: int) -> ReadingPlan:
    near, fetched = window // 4, window // 8
    policy = InfLLM(Budget(128 + near + fetched, sinks=128, recent=near))
    return ReadingPlan("infllm", policy, policy, Packed(fetched))


_PLANS: dict[str, Callable[[int, int], ReadingPlan]] = {
    "dense": lambda window, budget: ReadingPlan("dense"),
    "quest": lambda window, budget: ReadingPlan("quest", answering=quest(Budget(budget))),
    "page_mass": lambda window, budget: ReadingPlan("page_mass", answering=page_mass(Budget(budget))),
    "infllm": _infllm,
}
