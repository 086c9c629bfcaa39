"""Rows of trials as tables and as curves over length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from items import GOLD
from report import table
from trials import Row

_NAMES = {GOLD: "gold", 0: "no filler"}


def name_of(length: int) -> str:
    """8192 as "8k"."""
    return _NAMES.get(length) or (f"{length // 1024}k" if length % 1024 == 0 else str(length))


def length_of(name: str) -> int:
    """The other way round. Raises `ValueError`."""
    if name in ("gold", "0", "0k"):
        return GOLD if name == "gold" else 0
    return int(name[:-1]) * 1024 if name.endswith("k") else int(name)


def cells(rows: Sequence[Row]) -> dict[tuple[str, str, int], list[Row]]:
    """Rows with an outcome by (task, reader, length), in that order."""
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["task"], row["reader"], row["length"], row["number"])):
        if row["status"] != "cut":
            found.setdefault((row["task"], row["reader"], row["length"]), []).append(row)
    return found


def mean(rows: Sequence[Row], key: str) -> float:
    """Mean of a value; rows without it count as 0."""
    return sum(float(row.get(key) or 0) for row in rows) / len(rows)


def grid(rows: Sequence[Row], key: str = "right") -> str:
    """A table a task: readers down, lengths across, the share of items with `key`, and how many items."""
    found = cells(rows)
    parts = []
    for task in dict.fromkeys(task for task, _, _ in found):
        lengths = sorted({length for other, _, length in found if other == task})
        readers = dict.fromkeys(reader for other, reader, _ in found if other == task)
        body = []
        for reader in readers:
            shares = [found.get((task, reader, length)) for length in lengths]
            body.append([reader, *(f"{mean(cell, key):.0%} ({len(cell)})" if cell else "" for cell in shares)])
        parts.append(table((task, *map(name_of, lengths)), body))
    return "\n\n".join(parts)


def costs(rows: Sequence[Row]) -> str:
    """Every cell in full."""
    header = (
        "task, reader, length items right quote_holds_answer evidence_quoted EM F1 found calls prompt_tokens "
        "generated seconds failed"
    )
    body = []
    for (task, reader, length), cell in cells(rows).items():
        failed = [row for row in cell if row["status"] in ("failed", "partial")]
        body.append(
            [
                f"{task}, {reader}, {name_of(length)}",
                str(len(cell)),
                f"{mean(cell, 'right'):.0%}",
                f"{mean(cell, 'shown'):.0%}",
                f"{mean(cell, 'support'):.0%}",
                f"{mean(cell, 'exact'):.0%}",
                f"{mean(cell, 'f1'):.2f}",
                f"{mean(cell, 'found'):.0%}",
                f"{mean(cell, 'calls'):.0f}",
                f"{mean(cell, 'prompt_tokens'):.0f}",
                f"{mean(cell, 'generated_tokens'):.0f}",
                f"{mean(cell, 'reading_seconds'):.1f}",
                str(len(failed)) if failed else "",
            ]
        )
    names = ["task, reader, length", *(word.replace("_", " ") for word in header.split()[3:])]
    return table(names, body)


def losses(rows: Sequence[Row]) -> str:
    """Whose loss a wrong answer is: the model's, where the evidence was quoted, or the reader's, where it was not.

    The first column is the same reader and prompts given the evidence alone.
    """
    found = cells(rows)
    body = []
    for (task, reader, length), cell in found.items():
        if length == GOLD:
            continue
        gold = found.get((task, reader, GOLD))
        wrong = [row for row in cell if not row.get("right")]
        seen = [row for row in wrong if row.get("shown") or (row.get("support") or 0) == 1]
        body.append(
            [
                f"{task}, {reader}, {name_of(length)}",
                f"{mean(gold, 'right'):.0%} ({len(gold)})" if gold else "",
                f"{mean(cell, 'right'):.0%} ({len(cell)})",
                str(len(seen)),
                str(len(wrong) - len(seen)),
            ]
        )
    header = (
        "task, reader, length",
        "given the evidence alone",
        "given the document",
        "wrong with the evidence quoted",
    )
    return table((*header, "wrong without it"), body)


def unfinished(rows: Sequence[Row]) -> str:
    """What was cut off by the time and what failed, in words."""
    notes = []
    for row in rows:
        where = f"{row['task']}, {row['reader']}, {name_of(row['length'])}, item {row['number']}"
        if row["status"] == "cut":
            notes.append(f"* cut off: {where}, after {row['seconds']:.0f} s, part {row['part']} of {row['parts']}")
        elif row["status"] != "done":
            why = (row.get("error") or "; ".join(row.get("notes", []))).splitlines()
            notes.append(f"* {row['status']}: {where}: {' '.join(why[:1])[:200]}")
    return "\n".join(notes)


def draw(rows: Sequence[Row], file: Path, keys: Sequence[tuple[str, str]]) -> bool:
    """Curves over length, one picture row per (key, label), one column per task; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = cells(rows)
    tasks = list(dict.fromkeys(task for task, _, _ in found))
    readers = list(dict.fromkeys(reader for _, reader, _ in found))
    if not tasks:
        return True
    figure, axes = pyplot.subplots(
        len(keys), len(tasks), figsize=(4.6 * len(tasks), 3.2 * len(keys)), squeeze=False, constrained_layout=True
    )
    for down, (key, label) in enumerate(keys):
        for across, task in enumerate(tasks):
            place = axes[down][across]
            _curves(place, found, task, readers, partial(mean, key=key))
            place.set_title(task if down == 0 else "")
            place.set_ylabel(label if across == 0 else "")
            if key == "reading_seconds":
                place.set_yscale("log")
            else:
                place.set_ylim(-0.03, 1.03)
    if axes[0][-1].lines:
        axes[0][-1].legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
    return True


_Found = dict[tuple[str, str, int], list[Row]]
_MARKS = "osv^Dx*P<>hd"


def _curves(place: Any, found: _Found, task: str, readers: Sequence[str], value: Callable[[list[Row]], float]) -> None:
    lengths = sorted({length for other, _, length in found if other == task and length > 0})
    for number, reader in enumerate(readers):
        points = [(length, found[task, reader, length]) for length in lengths if (task, reader, length) in found]
        if points:
            xs, ys = [length for length, _ in points], [value(cell) for _, cell in points]
            place.plot(xs, ys, marker=_MARKS[number % len(_MARKS)], markersize=4, linewidth=1, label=reader)
    if lengths:
        place.set_xscale("log", base=2)
        place.set_xticks(lengths, [name_of(length) for length in lengths])
        place.set_xlabel("tokens")
    place.grid(alpha=0.3)
