"""Writes the training examples.

    python training/build.py --mix reader                       # training/out/reader.jsonl.xz: what readers ask
    python training/build.py --mix chat --base MODEL_FOLDER     # training/out/chat.jsonl.xz: the base's own replies
    python training/build.py --scale 0.01 --show 5              # a few, and five of each task on the screen

What overlaps an evaluation set is left out, and how much that was is said.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections import Counter
from pathlib import Path

import torch
from chat import answered, prompts
from example import Example, write
from mix import examples
from overlap import Evaluation, without
from sources import read

from longleaf.engine.loading import load_model, load_tokenizer

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("LONGLEAF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--squad", type=Path, nargs="*", default=[], help="more questions: files in SQuAD's form")
    parser.add_argument("--mix", choices=("reader", "chat"), default="reader")
    parser.add_argument("--base", type=Path, help="folder of the model that will be trained, for its replies")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="[training/out/MIX.jsonl.xz]")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--show", type=int, default=0, help="print so many examples of each task")
    chosen = parser.parse_args()
    out = chosen.out or ROOT / "training" / "out" / f"{chosen.mix}.jsonl.xz"
    out.parent.mkdir(parents=True, exist_ok=True)
    if chosen.mix == "chat":
        if chosen.base is None:
            parser.error("--mix chat are replies of the base model: name its folder with --base")
        torch.manual_seed(chosen.seed)
        dtype = torch.bfloat16 if chosen.device.startswith("cuda") else torch.float32
        asked = prompts()[: max(1, round(chosen.scale * len(prompts())))]
        made = answered(load_model(chosen.base, dtype, chosen.device), load_tokenizer(chosen.base), asked)
    else:
        pool, dropped = without(read(chosen.data, chosen.squad), Evaluation.read(chosen.data))
        print("left out, for they overlap an evaluation set:", dict(dropped))
        made = list(examples(pool, chosen.seed, chosen.scale))
    write(made, out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{len(made)} examples in {out}, sha256 {digest}")
    for task, count in Counter(item.task for item in made).most_common():
        print(f"  {count:6d} {task}")
    for task in dict.fromkeys(item.task for item in made):
        for item in [item for item in made if item.task == task][: chosen.show]:
            show(item)


def show(item: Example) -> None:
    """Print an example for reading."""
    print(f"\n=== {item.task} ({item.source})\n--- {item.system}\n{item.user}\n--- {item.prefix}|{item.reply}")


if __name__ == "__main__":
    main()
