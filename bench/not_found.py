"""When to say "not found": wrong refusals against right ones, by threshold, on xquad_en.

    python bench/not_found.py

Every fourth question is put to the library with its article and to the library without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reading import fill, new_library, xquad
from report import shared_data, write

from longleaf.agents.evidence import ENOUGH, confidence

THRESHOLDS = (0.30, 0.35, ENOUGH, 0.40, 0.45)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", type=Path, help="a models folder to use [default: fetch]")
    chosen = arguments.parse_args()
    questions = xquad(shared_data())
    with new_library(chosen.models) as (library, folder):
        ids = fill(library, questions, folder)
        held, lacking = [], []
        for item in questions.items[::4]:
            others = [document_id for name, document_id in ids.items() if name != item.document]
            for scores, documents in ((held, None), (lacking, others)):
                best = library.search.find(item.question, documents).sentences[:3]
                scores.append(max((confidence(sentence) for sentence in best), default=0.0))
    rows = []
    for threshold in THRESHOLDS:
        wrong = sum(score < threshold for score in held) / len(held)
        right = sum(score < threshold for score in lacking) / len(lacking)
        label = f"{threshold:.2f}{' (ours)' if threshold == ENOUGH else ''}"
        rows.append((label, f"refused, unanswerable: {right:.1%}", f"refused, answerable: {wrong:.1%}", ""))
    write("not_found", rows, {"questions": len(held)})


if __name__ == "__main__":
    main()
