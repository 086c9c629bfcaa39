"""`longleaf add` killed at any point leaves a library that opens, with the document whole or absent."""

import random
import signal
import time

ROUNDS = 15
SEED = 20261122


def story(number):
    return f"The capital of Freedonia in tale {number} is Zubrow.\n\n" + "".join(
        f"In tale {number} farm {farm} grew wheat and rye on {farm + 10} acres of good land.\n\n" for farm in range(300)
    )


def test_a_killed_add_leaves_the_document_whole_or_absent(shell):
    chance = random.Random(SEED)
    whole = {}
    for number in (0, 1):  # the first makes the library, which takes longer
        shell.write(f"{number}.txt", story(number))
        started = time.monotonic()
        assert shell("add", f"{number}.txt").code == 0
        longest = time.monotonic() - started
        whole[f"{number}.txt"] = story(number)
    killed = 0

    for number in range(2, ROUNDS + 2):
        name = f"{number}.txt"
        shell.write(name, story(number))
        running = shell.start("add", name)
        time.sleep(longest * (number - 2 + chance.random()) / ROUNDS)
        running.kill(signal.SIGKILL)
        killed += running.wait().code == -signal.SIGKILL

        asked = shell("ask", f"What is the capital of Freedonia in tale {number}?", "--json")
        assert asked.code == 0, asked.err
        listed = {record["title"]: record for record in shell("list", "--json").json}
        assert whole.keys() <= listed.keys() <= {*whole, name}
        if name in listed:
            whole[name] = story(number)
            shown = shell("show", listed[name]["id"], "--text", "--chunks", "--json").json
            assert shown["text"] == whole[name]
            ends = [0, *(chunk["end"] for chunk in shown["chunks"])]
            assert [chunk["start"] for chunk in shown["chunks"]] == ends[:-1]
            assert ends[-1] == len(whole[name])
            first = asked.json["claims"][0]["quotes"][0]
            assert first["text"] == f"The capital of Freedonia in tale {number} is Zubrow."

    assert killed >= ROUNDS // 3
    # What was cut off can be added after all.
    assert shell("add", *[f"{number}.txt" for number in range(ROUNDS + 2)]).code == 0
    assert len(shell("list", "--json").json) == ROUNDS + 2
