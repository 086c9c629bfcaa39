import json
import time

import pytest
from baselines import cut, ranked
from items import GOLD, Item
from libraries import CachedEmbedder, Libraries
from schedule import Forecast, load, planned, run
from tables import cells, grid, length_of, losses, name_of
from trials import Bench, Trial

from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.gather import Gather
from longleaf.retrieval.embedding import HashedWords

FACT = "The capital of Freedonia is Zubrow."


def item(task, length, number):
    text = f"Freedonia lies on a river. {FACT} " + "Its farms grow wheat and rye for the towns. " * max(length, 1)
    start = text.index(FACT)
    return Item(
        task, length, number, "What is the capital of Freedonia?", ("Zubrow",), text, ((start, start + len(FACT)),)
    )


def bench(reply="Zubrow.", **options):
    engine = Gather(ScriptedEngine([reply], **options))
    return Bench(item, Libraries(engine, CachedEmbedder(HashedWords())))


@pytest.mark.parametrize("parallel", [1, 3])
def test_readers_and_baselines_have_a_row_each(tmp_path, parallel):
    trials = planned(["t"], [GOLD, 20], 2, ["retrieve", "direct", "bm25", "passages"], longest_first=parallel > 1)
    rows = run(trials, bench(), tmp_path / "rows.jsonl", parallel=parallel)
    assert len(rows) == 16
    assert all(row["right"] and row["exact"] and row["shown"] and row["support"] == 1 for row in rows)
    assert "100% (2)" in grid(rows)
    assert load([tmp_path / "rows.jsonl"]) == rows


def test_a_run_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "rows.jsonl"
    trials = planned(["t"], [10], 3, ["bm25"], longest_first=False)
    run(trials[:1], bench(), file)
    again = bench()
    run(trials, again, file)
    assert len(again.libraries.engine.requests) == 2
    assert len(file.read_text().splitlines()) == 3


def test_a_reader_that_fails_is_wrong_and_says_why(tmp_path):
    row = run([Trial("t", 20, 0, "retrieve")], bench(window=10), tmp_path / "rows.jsonl")[0]
    assert (row["status"], row["right"]) == ("failed", False)
    assert "WindowExceeded" in row["error"]


def test_what_runs_when_the_time_is_up_is_cut_and_tried_again_later(tmp_path):
    file = tmp_path / "rows.jsonl"
    slow = bench(reply="word " * 200, delay=0.05)
    began = time.monotonic()
    rows = run([Trial("t", 20, number, "retrieve") for number in range(3)], slow, file, seconds=0.3)
    assert time.monotonic() - began < 15
    assert [row["status"] for row in rows] == ["cut"]
    assert not cells(rows)
    assert run([Trial("t", 20, 0, "retrieve")], bench(), file)[-1]["status"] == "done"


def test_later_rows_stand_and_cut_ones_do_not_displace_finished_ones(tmp_path):
    base = {"task": "t", "length": 8, "number": 0, "reader": "r"}
    for name, status in (("a", "done"), ("b", "cut")):
        (tmp_path / name).write_text(json.dumps(base | {"status": status}) + "\n")
    assert [row["status"] for row in load([tmp_path / "a", tmp_path / "b"])] == ["done"]
    assert [row["status"] for row in load([tmp_path / "b", tmp_path / "a"])] == ["done"]


def test_what_is_foreseen_grows_with_length_as_far_as_it_did():
    forecast = Forecast()
    assert forecast.of(Trial("t", 8, 0, "r")) is None
    forecast.add(Trial("t", 8, 0, "r"), 10)
    assert forecast.of(Trial("t", 32, 0, "r")) == pytest.approx(40)
    forecast.add(Trial("t", 32, 0, "r"), 10)
    assert forecast.of(Trial("t", 128, 0, "r")) == pytest.approx(10)
    assert forecast.of(Trial("t", 8, 3, "r")) == pytest.approx(10)


def test_a_text_is_cut_to_what_direct_can_take():
    engine = ScriptedEngine(["x"], window=1000)
    given = item("t", 500, 0)
    shorter = cut(given, engine)
    assert given.text.startswith(shorter.text)
    assert 600 < engine.count(shorter.text) < 1000 - 96
    assert cut(item("t", 2, 0), engine) == item("t", 2, 0)


def test_the_passages_baseline_is_direct_on_what_retrieve_reads(tmp_path):
    pair = bench()
    run([Trial("t", 200, 0, reader) for reader in ("retrieve", "passages")], pair, tmp_path / "rows.jsonl")
    *read, _, asked = ["".join(message.content for message in each.messages) for each in pair.libraries.engine.requests]
    passages = [each.partition("<text>")[2].partition("</text>")[0].strip() for each in read]
    assert len(passages) > 1
    assert all(passage and passage in asked for passage in passages)


def test_plain_bm25_ranks_the_chunk_that_holds_the_words_first():
    text = " ".join(["wheat"] * 500 + FACT.split() + ["rye"] * 500)
    start, end = ranked(text, "What is the capital of Freedonia?")[0]
    assert FACT in text[start:end]
    assert len(text[start:end].split()) == 200


def test_vectors_are_made_once_for_equal_texts():
    embedder = CachedEmbedder(HashedWords())
    first = embedder.embed(["a whale", "a ship", "a whale"])
    again = embedder.embed(["a ship"])
    assert (first[0] == first[2]).all()
    assert (again[0] == first[1]).all()
    assert (embedder.asked, embedder.made) == (4, 2)
    assert embedder.embed([]).shape == (0, 256)


def test_filled_libraries_are_kept_for_later(tmp_path):
    embedder = CachedEmbedder(HashedWords())
    libraries = Libraries(ScriptedEngine(["x"]), embedder, tmp_path)
    libraries.prepare(item("t", 20, 0))
    made = embedder.made
    with libraries.use(item("t", 20, 0)) as place, libraries.use(item("t", 20, 0)) as same:
        assert place is same
        assert place.library.text(place.document_id).characters == item("t", 20, 0).text
    assert embedder.made == made
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 1


def test_losses_tell_the_model_from_the_reader(tmp_path):
    rows = run(planned(["t"], [GOLD, 20], 1, ["retrieve"], longest_first=False), bench("Nothing."), tmp_path / "rows")
    assert "| t, retrieve, 20 | 0% (1) | 0% (1) | 1 | 0 |" in losses(rows)


@pytest.mark.parametrize(
    ("name", "length"), [("gold", GOLD), ("0k", 0), ("8k", 8192), ("1024k", 1024**2), ("100", 100)]
)
def test_lengths_are_named_in_k(name, length):
    assert length_of(name) == length
    assert length_of(name_of(length)) == length if length != 0 else name_of(length) == "no filler"
