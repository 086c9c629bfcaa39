"""HNSW search width against recall, on real vectors: the chunks of the demo documents, asked real questions.

    python bench/vectors.py

Baseline in the same run: exact cosine over all vectors.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from report import read_lines, shared_data, write

from longleaf.engine.store import ModelStore
from longleaf.memory.vectors import Vectors
from longleaf.retrieval.chunk import body, chunk
from longleaf.retrieval.embedding import SentenceEmbedder
from longleaf.retrieval.parsers import parse

WIDTHS = (10, 50, 100, 200, 400)
NEAREST = 10


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", type=Path, default=Path(".longleaf/models"))
    arguments.add_argument("--most", type=int, default=10_000, help="chunks taken at most")
    chosen = arguments.parse_args()
    data = shared_data()
    embedder = SentenceEmbedder(ModelStore(chosen.models).get("all-minilm-l6-v2"), name="all-minilm-l6-v2")
    bodies = []
    for file in sorted((data / "demo_docs").iterdir()):
        if file.suffix in {".pdf", ".epub", ".docx", ".html"}:
            text = parse(file).text
            bodies += [body(text, part) for part in chunk(text, embedder.count)]
    bodies = bodies[: chosen.most]
    print(f"{len(bodies)} chunks", flush=True)
    vectors = embedder.embed(bodies)
    questions = [row["question"] for row in read_lines(data / "xquad_en" / "qa.jsonl")][:200]
    asked = embedder.embed(questions)
    exact = np.argsort(-(asked @ vectors.T), axis=1)[:, :NEAREST]
    started = time.perf_counter()
    _ = [np.argsort(-(vectors @ query))[:NEAREST] for query in asked]
    exact_ms = 1000 * (time.perf_counter() - started) / len(asked)
    rows = []
    ids = [f"chunk:{index:06d}" for index in range(len(bodies))]
    for width in WIDTHS:
        with (
            tempfile.TemporaryDirectory() as place,
            Vectors.open(Path(place), "bench", embedder.dimensions, ef_search=width) as index,
        ):
            index.add(ids, vectors, ["document"] * len(ids), ["text"] * len(ids))
            recalls, seconds = [], []
            for query, truth in zip(asked, exact, strict=True):
                started = time.perf_counter()
                found = {int(key[6:]) for key, _ in index.search(query, None, NEAREST)}
                seconds.append(time.perf_counter() - started)
                recalls.append(len(found & set(truth.tolist())) / NEAREST)
        result = f"{statistics.mean(recalls):.4f}, {1000 * statistics.median(seconds):.1f} ms"
        rows.append((f"recall@10 and median time, ef_search {width}", result, f"exact: 1, {exact_ms:.1f} ms", ""))
        print(rows[-1], flush=True)
    write("vectors", rows, {"chunks": len(bodies)})


if __name__ == "__main__":
    main()
