"""What retrieving first is worth: `retrieve` against `direct` on the same ten paragraphs of HotpotQA.

    python bench/gain.py                 # 60 questions on a CPU, all 274 on a GPU
    python bench/gain.py --items 274

Each question's ten paragraphs are one document, which fits the window. Exact match and F1 as in SQuAD. `gold` gives the
same readers the two supporting paragraphs alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from command import arguments, main, quick
from items import GOLD
from report import table
from tables import mean
from trials import Row

DRAWS = 2000


def compared(rows: Sequence[Row]) -> str:
    """Every reader beside `direct`, question by question."""
    by_trial = {(row["reader"], row["length"], row["number"]): row for row in rows if row["status"] != "cut"}
    body = []
    for length in (0, GOLD):
        for reader in dict.fromkeys(row["reader"] for row in rows):
            pairs = [
                (row, by_trial["direct", length, number])
                for (name, other, number), row in by_trial.items()
                if name == reader and other == length and ("direct", length, number) in by_trial
            ]
            if pairs:
                body.append(_line(reader, "ten paragraphs" if length == 0 else "the two that answer", pairs))
    header = ("reader", "given", "questions", "exact match", "F1", "wording holds the answer")
    return table((*header, "exact match against direct, 95% interval", "wording against direct"), body)


def _line(reader: str, given: str, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    own = [row for row, _ in pairs]
    return [
        reader,
        given,
        str(len(pairs)),
        f"{mean(own, 'exact'):.1%}",
        f"{mean(own, 'f1'):.3f}",
        f"{mean(own, 'right'):.1%}",
        _difference(pairs, "exact"),
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
    parser.set_defaults(readers="retrieve,direct,bm25")
    main("gain", parser, compared)
