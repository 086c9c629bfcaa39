"""What taking a question apart finds: the evidence among the quotes of `hops` against that of `retrieve`, on HotpotQA.

    python bench/hops.py                  # 200 training questions, which the rules were not written on
    python bench/hops.py --split dev

No model: a silent one stands in, so the numbers are search's and the rules' alone; the embedder is the default one.
Each question's ten paragraphs are one document. "both" is the share of questions with a quote in each of the two
supporting paragraphs, "answer" that with the gold answer's words in a quote.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any

from reading import new_library
from report import read_lines, shared_data, write

from longleaf import Answer, Library
from longleaf.engine.backends.scripted import ScriptedEngine

READERS = ("retrieve", "hops")


def words(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def document(row: dict[str, Any]) -> str:
    return "\n\n".join(f"# {part['title']}\n\n{part['text']}" for part in row["paragraphs"])


def titles(library: Library, document_id: str, answer: Answer) -> set[str]:
    """The titles of the paragraphs that the answer's own quotes stand in."""
    text = library.text(document_id)
    found = set()
    for quote in answer.claims[0].quotes if answer.claims else ():
        inside = [heading for heading in text.headings if heading.end <= quote.start]
        if inside:
            found.add(text.characters[inside[-1].start : inside[-1].end].lstrip("# ").strip())
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--split", choices=("train", "dev"), default="train")
    arguments.add_argument("--questions", type=int, default=200)
    arguments.add_argument("--models", type=Path, help="a models folder to use [default: fetch]")
    chosen = arguments.parse_args()
    lines = read_lines(shared_data() / "hotpotqa" / f"{chosen.split}_distractor.jsonl")[: chosen.questions]
    asked: Counter[str] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    with new_library(chosen.models) as (library, folder):
        library.__dict__["engine"] = ScriptedEngine([""])
        for row in lines:
            file = folder / f"{row['id']}.md"
            file.write_text(document(row), encoding="utf-8")
            added = library.add(file).id
            asked[row["type"]] += 1
            for reader in READERS:
                answer = library.ask(row["question"], [added], reader=reader)
                quotes = " | ".join(quote.text for quote in (answer.claims[0].quotes if answer.claims else ()))
                both[reader, row["type"]] += set(row["supporting_titles"]) <= titles(library, added, answer)
                held[reader, row["type"]] += any(words(gold) in words(quotes) for gold in row["answers"])
    rows = []
    for kind, count in sorted(asked.items()):
        for name, counted in (("both", both), ("answer", held)):
            plain, hops = (f"{counted[reader, kind] / count:.1%}" for reader in READERS)
            rows.append((f"{chosen.split}, {kind}, {count} questions: {name}", hops, f"`retrieve` {plain}", ""))
    write("hops", rows, {})


if __name__ == "__main__":
    main()
