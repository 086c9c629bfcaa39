"""Reads in a process that is killed at random, then resumes in another. Run by test_resume: FOLDER ROUNDS SEED READER.

Each round forks a child that reads slowly, kills it with SIGKILL, and forks another that goes on with the run and
compares its answer, coverage and memory with those of an unbroken run. Forked, so that the imports are paid once.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import chromadb  # noqa: F401 - paid once, before the forks
import langgraph.graph  # noqa: F401
import scripts
import snowballstemmer  # noqa: F401
from conftest import Desk, open_desk

from longleaf.agents.errors import RunEnded
from longleaf.agents.reader import Answer, Ask, Budget
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.gather import Gather
from longleaf.memory.marker import OpenMarker


def slow(desk: Desk, reader: str) -> Desk:
    """A desk with the scripted model of this reader, slow enough to be killed between two words."""
    return desk.with_engine(Gather(ScriptedEngine(getattr(scripts, reader), delay=0.004, attention=True)))


def question(reader: str) -> Ask:
    asked = scripts.QUESTIONS.get(reader, scripts.QUESTION)
    return Ask(asked, reader=reader, budget=Budget(part_tokens=64, memory_tokens=48, members=3))


def essence(desk: Desk, answer: Answer) -> str:
    """All of an answer and of the memory behind it but their cost and their run."""
    versions = [
        (item.sequence, item.node, item.chunk_ids, item.text, item.lines, item.added, item.dropped)
        for item in desk.deps.versions.list(answer.run_id)
    ]
    return repr((answer.text, answer.claims, answer.found, answer.coverage, answer.partial, versions))


def unbroken(path: Path, reader: str, out: int) -> None:
    with open_desk(path) as desk:
        desk.add(scripts.BOOK)
        working = slow(desk, reader)
        started = time.perf_counter()
        *events, answer = working.stream(question(reader))
        seconds = time.perf_counter() - started
        os.write(out, f"{seconds:.3f} {len(events)}\n{essence(desk, answer)}".encode())


def read(path: Path, reader: str, out: int) -> None:
    with open_desk(path) as desk:
        working = slow(desk, reader)
        os.write(out, b"x")
        for _ in working.stream(question(reader)):
            os.write(out, b"x")
        time.sleep(60)


def go_on(path: Path, reader: str, expected: str, done_before: int, out: int) -> None:
    with open_desk(path) as desk:
        runs = desk.deps.runs
        runs.interrupt_running()
        records = runs.list()
        if len(records) == done_before:
            os.write(out, b"none")
            return
        newest = records[0]
        if newest.status == "done":
            try:
                desk.resume(newest.id)
            except RunEnded:
                os.write(out, b"ended")
            return
        assert newest.status == "interrupted", newest.status
        kept = len(runs.steps(newest.id))
        answer = slow(desk, reader).resume(newest.id)
        assert essence(desk, answer) == expected, f"{essence(desk, answer)}\n{expected}"
        assert runs.get(newest.id).status == "done"
        assert runs.get(newest.id).answer["text"] == answer.text
        assert desk.checkpointer.get_tuple({"configurable": {"thread_id": newest.id}}) is None
        os.write(out, b"went-on" if kept else b"began")


def in_child(work, *arguments):
    """Fork a process that does this with a pipe to write to; returns its pid and the pipe's other end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        work(*arguments, writing)
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must end here, whatever happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def outcome(work, *arguments) -> str:
    pid, reading = in_child(work, *arguments)
    with os.fdopen(reading) as stream:
        said = stream.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"{work.__name__} ended with {status}")
    return said


def trust_the_index() -> None:
    """Reading does not change the vector index; to try it in a process of its own after each kill takes a second."""
    OpenMarker.readable = lambda self: True  # type: ignore[method-assign]


def main(path: Path, rounds: int, seed: int, reader: str) -> None:
    trust_the_index()
    chance = random.Random(seed)
    measured, expected = outcome(unbroken, path, reader).split("\n", 1)
    seconds, events = float(measured.split()[0]), int(measured.split()[1])
    runs = 1
    for number in range(rounds):
        pid, reading = in_child(read, path, reader)
        # Spread over all that a read tells, so that each of its stages is hit however busy the machine is.
        for _ in range(1 + int(events * (number + chance.random()) / rounds)):
            assert os.read(reading, 1) == b"x"
        time.sleep(chance.random() * seconds / max(1, events))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        said = outcome(go_on, path, reader, expected, runs)
        runs += said != "none"
        sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
