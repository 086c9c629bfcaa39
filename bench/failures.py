"""What went wrong with a reply, by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from report import table

Row = Mapping[str, Any]

_REFUSAL = re.compile(
    r"\b(not|never|n't)\b.{0,40}\b(mention|state|provide|specif|given|contain|include|answer|say|said|available|text)"
    r"|no (information|mention|answer)|unknown|cannot|unclear",
    re.IGNORECASE,
)
_SHOWN = 3


def refused(row: Row) -> bool:
    """Whether a reply says in any words that it has no answer; a rough reading, for models that were not trained to."""
    return bool(row["denied"] or _REFUSAL.search(row["reply"]))


def kind_of(row: Row) -> str | None:
    """What is wrong with a reply; None where it is the answer, or denies where there is none."""
    if row["exact"] or (row["denied"] and not row["golds"]):
        return None
    there = bool(row["golds"])
    faults = {
        "the call failed": row["stop"].startswith("failed"),
        "says the same over and over": row["stop"] == "loop",
        "says nothing": not row["reply"],
        "denies an answer that is there": row["denied"],
        "refuses in other words": not there and refused(row),
        "the answer within more words": row["right"],
        "part of the answer, or other words beside it": row["f1"] > 0,
        "another span of the text": row["in_text"],
    }
    return next((fault for fault, met in faults.items() if met), "words that stand nowhere in the text")


def counted(rows: Sequence[Row], models: Sequence[str]) -> str:
    """How many replies of each kind, by part, a column a model; and examples of the last model's."""
    parts = list(dict.fromkeys((row["part"], row["kind"]) for row in rows))
    body, examples = [], []
    for part, kind in parts:
        own = [row for row in rows if (row["part"], row["kind"]) == (part, kind)]
        counts = {model: Counter(kind_of(row) for row in own if row["model"] == model) for model in models}
        last = counts[models[-1]]
        faults = sorted(
            {fault for found in counts.values() for fault in found if fault}, key=lambda fault: -last[fault]
        )
        for fault in faults:
            shares = [f"{counts[model][fault]} of {counts[model].total()}" for model in models]
            body.append([f"{part}, {kind}", fault, *shares])
            met = [row for row in own if row["model"] == models[-1] and kind_of(row) == fault]
            examples += [
                [f"{part}, {kind}", fault, *map(_cell, (row["question"], " / ".join(row["golds"]), row["reply"]))]
                for row in met[:_SHOWN]
            ]
    if not body:
        return "No failures."
    return "\n\n".join(
        [
            table(("part", "what is wrong", *models), body),
            f"Examples, {models[-1]}:",
            table(("part", "what is wrong", "question", "gold", "reply"), examples),
        ]
    )


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= 160 else f"{flat[:160]} ..."
