"""`ReadingPlan`: which techniques read a document and answer from it, under a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from longleaf.engine.attention.contract import Policy, Positions, Summary
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.policies.infllm import InfLLM
from longleaf.engine.attention.policies.page_mass import page_mass
from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.policies.voted import Voted
from longleaf.engine.attention.positions.packed import Packed
from longleaf.engine.attention.runner import summary_of
from longleaf.engine.attention.selection import Budget
from longleaf.engine.contract import Head
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


def plan_named(name: str, window: int, *, budget: int = 512, heads: Sequence[Head] = ()) -> ReadingPlan:
    """A plan for a model that holds `window` tokens; replies read `budget` tokens a step, where they choose.

    `dense`: everything. `quest`, `page_mass`: the document is read exactly, replies choose pages. `infllm`: any length;
    a window, and pages that are fetched from all before it, one behind another; a reply reads what `heads` vote for,
    where these are known. Raises `ValueError` for
    another name.
    """
    if name != "infllm" and name not in _PLANS:
        raise ValueError(f"no plan {name!r} for reading a document; there are {', '.join(_PLANS)}, infllm")
    return _infllm(window, heads) if name == "infllm" else _PLANS[name](budget)


def _infllm(window: int, heads: Sequence[Head]) -> ReadingPlan:
    near, fetched = window // 4, window // 8
    reading = InfLLM(Budget(128 + near + fetched, sinks=128, recent=near))
    answering: Policy = reading
    if heads:
        last, look, elected = window // 32, window // 16, window // 2
        answering = Voted(
            tuple(heads), Budget(128 + elected + last, sinks=128, recent=last), Budget(128 + look + last, 128, last)
        )
    return ReadingPlan("infllm", reading, answering, Packed(window // 16))


_PLANS: dict[str, Callable[[int], ReadingPlan]] = {
    "dense": lambda budget: ReadingPlan("dense"),
    "quest": lambda budget: ReadingPlan("quest", answering=quest(Budget(budget))),
    "page_mass": lambda budget: ReadingPlan("page_mass", answering=page_mass(Budget(budget))),
}
