"""Answers against the length of the document: needles and HotpotQA among distractors, 8k to 512k tokens.

    python bench/length.py                                   # every reader; on a CPU few items, on a GPU twenty
    python bench/length.py --readers attention --tasks needle --lengths 1024k --items 20
    python bench/length.py --merge a.jsonl b.jsonl           # tables and curves of several machines' rows

Baselines in the same run: `direct` on the text cut to the window, and plain BM25 (k1 1.2, b 0.75) over chunks of 200
words with the prompt that `retrieve` ends with. Length `gold` is the evidence alone: what is lost there is the model's.
"""

from __future__ import annotations

from collections.abc import Sequence

from command import arguments, main, quick
from report import table
from tables import cells, mean
from trials import Row

SHORT, LONG, MILLION = 8 * 1024, 512 * 1024, 1024 * 1024
HELD = ("memory", "team", "attention")


def targets(rows: Sequence[Row]) -> str:
    """What was asked of this bench, and what came out."""
    found = cells(rows)
    body = []
    for task in dict.fromkeys(task for task, _, _ in found):
        for reader in HELD:
            short, long = found.get((task, reader, SHORT)), found.get((task, reader, LONG))
            if short and long:
                for key, label in (("right", "wording right"), ("shown", "answer quoted")):
                    before, after = mean(short, key), mean(long, key)
                    share = f"{after / before:.0%} of it" if before else "nothing to hold"
                    goal = ">= 90% of 8k" if key == "right" else ""
                    body.append(
                        [
                            f"{task}, {reader}: {label} at 512k ({len(long)} items)",
                            f"{after:.0%}, {share}",
                            f"{before:.0%} at 8k ({len(short)})",
                            goal,
                        ]
                    )
    for length, label in ((MILLION, "1M"), (128 * 1024, "128k")):
        if cell := found.get(("needle", "attention", length)):
            both = sum(bool(row["right"] and row["support"] == 1) for row in cell)
            body.append(
                [
                    f"attention: needle at {label} found and answered",
                    f"{both} of {len(cell)}",
                    "",
                    "100% of at least 20",
                ]
            )
    return table(("measure", "result", "beside", "target"), body) if body else ""


if __name__ == "__main__":
    SMALL = quick()
    main(
        "length",
        arguments(__doc__, ("needle", "fact", "hotpot"), "gold,8k,32k,128k,512k", 2 if SMALL else 20),
        targets,
    )
