"""What retrieving first is worth: `retrieve` against `direct` on the same paragraphs of HotpotQA.

    python bench/gain.py                 # 60 questions on a CPU, all 274 on a GPU
    python bench/gain.py --items 274

Each question's ten paragraphs are one document, which fits the window. `direct` is given all of it; `passages` is
`direct` on the passages that search finds for `retrieve`. Exact match and F1 as in SQuAD. `gold` gives the same readers
the two supporting paragraphs alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from command import arguments, main, quick
from items import GOLD
from report import table
from tables import mean
from trials import PASSAGES, Row

DIRECT = "direct"
DRAWS = 2000


def compared(rows: Sequence[Row]) -> str:
    """Every reader beside `direct` and beside `passages`, question by question."""
    by_trial = {(row["reader"], row["length"], row["number"]): row for row in rows if row["status"] != "cut"}
    readers = list(dict.fromkeys(row["reader"] for row in rows))
    body = []
    for length in (0, GOLD):
        for against in (DIRECT, PASSAGES):
            for reader in readers:
                pairs = [
                    (row, by_trial[against, length, number])
                    for (name, other, number), row in by_trial.items()
                    if name == reader != against and other == length and (against, length, number) in by_trial
                ]
                if pairs and reader != DIRECT:
                    body.append(
                        _line(reader, against, "ten paragraphs" if length == 0 else "the two that answer", pairs)
                    )
    header = ("reader, against", "given", "questions", "exact match", "difference, 95% interval", "F1")
    return table((*header, "wording holds the answer", "difference, 95% interval"), body)


def _line(reader: str, against: str, given: str, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    own, other = [row for row, _ in pairs], [row for _, row in pairs]
    return [
        f"{reader}, {against}",
        given,
        str(len(pairs)),
        f"{mean(own, 'exact'):.1%}, {mean(other, 'exact'):.1%}",
        _difference(pairs, "exact"),
        f"{mean(own, 'f1'):.3f}, {mean(other, 'f1'):.3f}",
        f"{mean(own, 'right'):.1%}, {mean(other, 'right'):.1%}",
        _difference(pairs, "right"),
    ]


def _difference(pairs: Sequence[tuple[Row, Row]], key: str) -> str:
    """Mean difference in points with the interval of a paired bootstrap."""
    gains = [float(row.get(key) or 0) - float(other.get(key) or 0) for row, other in pairs]
    draw = random.Random(7)
    means = sorted(sum(draw.choices(gains, k=len(gains))) / len(gains) for _ in range(DRAWS))
    low, high = means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS)]
    return f"{100 * sum(gains) / len(gains):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    parser = arguments(__doc__, ("hotpot",), "0k,gold", 60 if quick() else 274)
    parser.set_defaults(readers=f"retrieve,{DIRECT},{PASSAGES},bm25")
    main("gain", parser, compared)
