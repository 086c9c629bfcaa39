"""Runs `longleaf` commands, each in a process forked from this one, so that the imports are paid once.

Reads one JSON object a line: {argv, cwd, env, out, err, delay, script}; answers with the process's id, and when told
{wait: id} with its exit status. `delay` is seconds per token of a scripted model. Started by conftest.
"""

import json
import os
import signal
import sys

import chromadb  # noqa: F401
import langgraph.checkpoint.sqlite
import langgraph.graph  # noqa: F401
import rich.console  # noqa: F401
import snowballstemmer  # noqa: F401

import longleaf.agents.run
import longleaf.cli
import longleaf.library
import longleaf.render
import longleaf.retrieval.index
from longleaf.engine.backends import scripted


def slowly(delay):
    """Make scripted models take time, as real ones do."""

    def from_spec(spec, *, window=8192):
        return scripted.ScriptedEngine([spec.partition(":")[2]], window=window, delay=delay)

    scripted.ScriptedEngine.from_spec = from_spec


def run(order):
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    encoding = order["env"].get("PYTHONIOENCODING", "utf-8")
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["longleaf", *order["argv"]]
    if order["delay"]:
        slowly(order["delay"])
    code = 0
    try:
        longleaf.cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as Python does at the end of a program
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def main():
    orders, answers = sys.stdin, sys.stdout
    for line in orders:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                run(order)
        answers.write(f"{answer}\n")
        answers.flush()


if __name__ == "__main__":
    main()
