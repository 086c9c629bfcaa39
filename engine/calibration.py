"""Finds the attention heads of a model that look at the answer.

Few heads do, and which ones is a matter of the model (Wu et al., 2024): every head is asked which sentence of a
made-up page answers a question, and those that are right most often are taken.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longleaf.engine.contract import Head
from longleaf.engine.errors import EngineFailed
from longleaf.engine.heads import Calibration, HeadScore, fingerprint, save
from longleaf.engine.needles import Page, pages

if TYPE_CHECKING:
    import torch

    from longleaf.engine.attention_scores import AttentionScorer
    from longleaf.engine.backends.torch import TorchEngine
    from longleaf.engine.store import ModelStore

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a calibration runs.

    `heads` are kept. It ends after about `seconds`, having asked about at most `chosen` pages to choose the heads
    and `checked` pages to check them; a page has ten questions. `seed` makes other pages.
    """

    heads: int = 8
    seconds: float = 100.0
    chosen: int = 24
    checked: int = 12
    seed: int = 0


def calibrate_model(
    spec: str,
    store: ModelStore,
    *,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    device: str = "auto",
    adapter: Path | None = None,
    questions: Sequence[Page] | None = None,
    plan: Plan | None = None,
    on_progress: Progress = lambda line: None,
) -> tuple[Calibration, Path]:
    """Calibrate the model that `spec` names and keep the outcome beside it; returns it and where it is.

    Raises `EngineFailed` for a model that PyTorch does not run here or a folder that cannot be written, and
    `ModelNotFound`.
    """
    from longleaf.engine.backends.open import open_engine
    from longleaf.engine.backends.torch import TorchEngine

    engine = open_engine(spec, store, dtype=dtype, device=device, adapter=adapter, on_progress=on_progress)
    try:
        if not isinstance(engine, TorchEngine):
            raise EngineFailed(f"{spec} is not run here with PyTorch, so there is no attention to look at")
        path, adapter = store.get(spec), adapter or store.adapter(spec)
        weights = fingerprint(path, adapter)
        calibration = calibrate(engine, weights, questions=questions, plan=plan, on_progress=on_progress)
        return calibration, save(calibration, path, adapter)
    finally:
        engine.close()


def calibrate(
    engine: TorchEngine,
    weights: str = "",
    *,
    questions: Sequence[Page] | None = None,
    plan: Plan | None = None,
    on_progress: Progress = lambda line: None,
    stop: Callable[[], bool] | None = None,
) -> Calibration:
    """Find the best heads of a model whose fingerprint is `weights`, on made-up pages.

    Given `questions`, every other one of their pages is used to choose and the rest to check, and nothing is
    made up. A slow model is asked fewer questions, but never fewer than those of one page each way.

    Raises `EngineFailed` where there is too little to ask, `Stopped` where `stop` said so.
    """
    plan = plan or Plan()
    start = time.perf_counter()
    to_choose: Iterable[Page] = itertools.islice(pages(plan.seed), plan.chosen)
    to_check: Iterable[Page] = itertools.islice(pages(plan.seed, held_out=True), plan.checked)
    if questions is not None:
        if len(questions) < 2:
            raise EngineFailed(
                "calibrating takes questions about two contexts or more: some to choose by, some to check"
            )
        to_choose, to_check = questions[0::2], questions[1::2]
    every = engine.scorer()
    ranks: list[torch.Tensor] = []
    for page in _until(to_choose, start + 0.75 * plan.seconds):
        ranks += [rank for _, rank in _ask(every, page, stop)]
        on_progress(f"choosing heads: asked {len(ranks)} questions")
    heads = _best(every.heads, ranks, plan.heads)
    together = engine.scorer([(head.layer, head.head) for head in heads])
    found: list[int] = []
    sizes: list[int] = []
    for page in _until(to_check, start + plan.seconds):
        found += [rank for rank, _ in _ask(together, page, stop)]
        sizes.append(len(page.units))
        on_progress(f"checking them: asked {len(found)} questions")
    return Calibration(
        model=engine.card.name,
        fingerprint=weights,
        heads=heads,
        accuracy=round(sum(rank == 1 for rank in found) / len(found), 4),
        top_five=round(sum(rank <= 5 for rank in found) / len(found), 4),
        items=len(found),
        tried=len(ranks),
        units=round(sum(sizes) / len(sizes), 1),
        seconds=round(time.perf_counter() - start, 1),
        date=datetime.now(UTC).date().isoformat(),
    )


def _until(some: Iterable[Page], end: float) -> Iterator[Page]:
    """Pages until the time is over; always one."""
    for number, page in enumerate(some):
        if number and time.perf_counter() > end:
            return
        yield page


def _ask(scorer: AttentionScorer, page: Page, stop: Callable[[], bool] | None) -> Iterator[tuple[int, torch.Tensor]]:
    """For each question of a page the rank its answer gets from all heads together, and from each, `[heads]`."""
    for needle in page.needles:
        attention = scorer.read(needle.question, page.units, stop)
        together = _ranks(attention.together()[None], needle.units)
        yield int(together[0]), _ranks(attention.units(), needle.units)


def _ranks(units: torch.Tensor, answers: frozenset[int]) -> torch.Tensor:
    """Rank of the best answering unit in each row of `[rows, units]`, from 1; among equals it comes last."""
    import torch

    right = torch.zeros(units.shape[1], dtype=torch.bool)
    right[list(answers)] = True
    best = units[:, right].amax(dim=1, keepdim=True)
    return 1 + (units[:, ~right] >= best).sum(dim=1)


def _best(heads: Sequence[Head], ranks: Sequence[torch.Tensor], count: int) -> tuple[HeadScore, ...]:
    import torch

    table = torch.stack(list(ranks)).float()
    first = (table == 1).float().mean(dim=0).tolist()
    reciprocal = table.reciprocal().mean(dim=0).tolist()
    scores = [
        HeadScore(layer, head, round(one, 4), round(mean, 4))
        for (layer, head), one, mean in zip(heads, first, reciprocal, strict=True)
    ]
    return tuple(sorted(scores, key=lambda score: (-score.first, -score.reciprocal, score.layer, score.head))[:count])
