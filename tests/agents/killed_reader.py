"""Reads in a process that is killed at random, then resumes in another. Run by test_resume.

Each round forks a child that reads slowly, kills it with SIGKILL, and forks another that goes on with the run and
compares its answer with that of an unbroken run. Forked, so that the imports are paid once.
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
import snowballstemmer  # noqa: F401
from conftest import Desk, open_desk

from longleaf.agents.errors import RunEnded
from longleaf.agents.reader import Answer
from longleaf.engine.backends.scripted import ScriptedEngine

BOOK = "The capital of Freedonia is Zubrow. It lies on the river Lutz.\n\n" + "".join(
    f"Farm {number} of Freedonia grew wheat and rye on {number + 10} acres of land. " for number in range(30)
)
QUESTION = "What is the capital of Freedonia?"
LONGEST = 0.4
"""Seconds within which the kill comes; a slow read takes about as long."""


def slow(desk: Desk) -> Desk:
    def reply(request):
        extract = request.id.startswith("passage-")
        return "The capital of Freedonia is Zubrow." if extract else "Zubrow, on the river Lutz, is the capital of it."

    return desk.with_engine(ScriptedEngine(reply, delay=0.008))


def essence(answer: Answer) -> str:
    """All of an answer but its cost and its run."""
    return repr((answer.text, answer.claims, answer.found, answer.coverage))


def unbroken(path: Path, out: int) -> None:
    with open_desk(path) as desk:
        desk.add(BOOK)
        os.write(out, essence(slow(desk).ask(QUESTION)).encode())


def read(path: Path, out: int) -> None:
    with open_desk(path) as desk:
        working = slow(desk)
        os.write(out, b"x")
        working.ask(QUESTION)
        time.sleep(60)


def go_on(path: Path, expected: str, done_before: int, out: int) -> None:
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
        kept = {step.node for step in runs.steps(newest.id)}
        answer = slow(desk).resume(newest.id)
        assert essence(answer) == expected, f"{essence(answer)}\n{expected}"
        assert runs.get(newest.id).status == "done"
        assert runs.get(newest.id).answer["text"] == answer.text
        assert desk.checkpointer.get_tuple({"configurable": {"thread_id": newest.id}}) is None
        if "reason" not in kept and "extract" in kept:
            os.write(out, b"after-extract")
        else:
            os.write(out, b"resumed")


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


def main(path: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    expected = outcome(unbroken, path)
    runs = 1
    for number in range(rounds):
        pid, reading = in_child(read, path)
        assert os.read(reading, 1) == b"x"
        # Spread over the whole read, so that each of its stages is hit.
        time.sleep(LONGEST * (number + chance.random()) / rounds)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        said = outcome(go_on, path, expected, runs)
        runs += said != "none"
        sys.stdout.write(f"{said}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
