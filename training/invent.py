"""Writes examples on questions that a model made up and another one could answer.

    python training/invent.py --base MODEL_FOLDER --asker training/out/asker --reader training/out/reader

The asker was trained on the mix `ask`, the reader on the mix `reader`. Passages are those of `build.py --mix ask`. What
the reader gives less than a tenth of its belief is dropped: most of it is asked wrongly (round-trip consistency;
Alberti et al., 2019). `--slice 0/2` and `--slice 1/2` share the work between two GPUs.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from asking import made_up, prompt
from example import Example, example, read, write
from overlap import Evaluation
from packing import Encoded, batches, losses, packed, packs
from short import NOWHERE, asked, nearby, shown
from sources import Passage, Pool, Question
from train import encoded
from writing import written

from longleaf.engine import adapter as adapters
from longleaf.engine.loading import load_model, load_tokenizer
from longleaf.retrieval.sentence import sentences, trimmed
from longleaf.retrieval.text import Span

LEAST = 0.1
"""Probability of the answer, by the reader, below which a question is dropped."""

_ROW, _LONGEST = 24576, 6144

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "training" / "out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("LONGLEAF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--asker", type=Path, default=OUT / "asker")
    parser.add_argument("--reader", type=Path, default=OUT / "reader")
    parser.add_argument("--passages", type=Path, default=OUT / "passages.jsonl.xz")
    parser.add_argument(
        "--data", type=Path, default=shared / "data", help="evaluation sets, of which nothing may be asked"
    )
    parser.add_argument("--out", type=Path, default=OUT / "invented.jsonl.xz")
    parser.add_argument("--count", type=int, default=40000, help="sentences to ask about")
    parser.add_argument("--slice", default="0/1")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    began = time.perf_counter()
    pool = pool_of(chosen.passages)
    part, parts = (int(number) for number in chosen.slice.split("/"))
    places = told_of(pool)
    random.Random(chosen.seed).shuffle(places)
    places = places[: chosen.count][part::parts]
    torch.manual_seed(chosen.seed + part)
    asker = merged(chosen.base, chosen.asker, chosen.device)
    questions = invented(asker, load_tokenizer(chosen.base), places, Evaluation.read(chosen.data))
    del asker
    print(f"{len(questions)} questions on {len(places)} sentences, {time.perf_counter() - began:.0f} s", flush=True)
    reader = merged(chosen.base, chosen.reader, chosen.device)
    beliefs = believed(reader, questions, chosen.base)
    kept = [question for question, belief in zip(questions, beliefs, strict=True) if belief >= LEAST]
    made = list(examples(random.Random(f"{chosen.seed} {part}"), pool, kept))
    write(made, chosen.out)
    print(f"{len(kept)} that the reader answers so; {len(made)} examples in {chosen.out}")
    for question in kept[:12]:
        print(f"  {question.text} | {question.answers[0]}")
    print(f"{time.perf_counter() - began:.0f} s in all")


def invented(
    model: Any, tokenizer: Any, places: Sequence[tuple[Passage, str]], evaluation: Evaluation
) -> list[Question]:
    """Sound questions on sentences, each given with its passage; none that an evaluation set asks."""
    room = 400_000 if model.device.type == "cuda" else 8_000
    prompts = [prompt(passage.text, sentence) for passage, sentence in places]
    replies = written(model, tokenizer, prompts, 40, temperature=0.8, batch_tokens=room)
    made = [made_up(reply, passage, sentence) for reply, (passage, sentence) in zip(replies, places, strict=True)]
    return [question for question in made if question is not None and not evaluation.asks(question.text)]


def pool_of(file: Path) -> Pool:
    """The passages that `build.py` wrote."""
    pool = Pool(filler=[Passage(item.source, item.reply) for item in read(file)])
    for passage in pool.filler:
        pool.articles.setdefault(passage.title, []).append(passage)
    return pool


def told_of(pool: Pool) -> list[tuple[Passage, str]]:
    """Sentences that tell something, each with its passage."""
    return [
        (passage, passage.text[inner.start : inner.end])
        for passage in pool.filler
        for span in sentences(passage.text, Span(0, len(passage.text)))
        if 40 <= len(inner := trimmed(passage.text, span)) <= 400
    ]


def merged(base: Path, adapter: Path, device: str) -> Any:
    """A base with an adapter."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    model = load_model(base, dtype, device)
    adapters.merge(adapters.read(adapter), model)
    return model.eval()


@torch.no_grad()
def believed(model: Any, questions: Sequence[Question], base: Path) -> list[float]:
    """The probability that the model gives each question's answer, word for word, on the question's passage."""
    made = [
        example("short", "", "direct", question.answers[0], question=question.text, document=question.passages[0].text)
        for question in questions
    ]
    rows = [
        Encoded(str(place), "", row.ids[-_LONGEST:], row.asked - max(0, len(row.ids) - _LONGEST))
        for place, row in enumerate(encoded(made, base))
    ]
    found = [0.0] * len(questions)
    with packs(model, _LONGEST):
        for _, batch in takewhile(lambda one: one[0] < 1.0, batches(rows, _ROW, 0)) if rows else ():
            loss = losses(model, packed(batch, _ROW, _LONGEST).to(model.device.type))
            for row, part in zip(batch, loss.split([len(row.ids) - row.asked for row in batch]), strict=True):
                found[int(row.task)] = math.exp(-float(part.sum()))
    return found


def examples(draw: random.Random, pool: Pool, questions: Sequence[Question]) -> Iterator[Example]:
    """Each question on its paragraph or as a reader would show it, and one of six where its answer is not told."""
    for question in questions:
        alone = draw.random() < 0.6
        blocks = [question.passages[0].text] if alone else shown(draw, pool, question)
        yield asked(draw, "short", question.source, blocks, question.text, question.answers[0])
        if draw.random() < 1 / 6:
            blocks = nearby(draw, pool, question, draw.randrange(1, 4))
            if blocks:
                yield asked(draw, "nowhere", question.source, blocks, question.text, NOWHERE)


if __name__ == "__main__":
    main()
