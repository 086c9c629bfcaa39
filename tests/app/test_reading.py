"""The command line around a reading: what it costs, how it is replayed, and what an error in the middle leaves."""

import json
import re

import pytest
from typer.testing import CliRunner

from longleaf.agents.registry import readers
from longleaf.cli import FAILED, app
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.engine.errors import EngineFailed
from longleaf.library import Library

QUESTION = "What is the capital of Freedonia?"


def test_the_ways_of_reading_are_listed(shell):
    done = shell("readers")
    assert done.code == 0
    listed = [line.split()[0] for line in done.out.splitlines()[1:] if not line.startswith(" ")]
    assert set(readers()) <= set(listed)
    assert set(shell("readers", "--json").json) == set(readers())


def test_a_dry_run_says_the_costs_and_leaves_no_run(shell, added):
    done = shell("ask", QUESTION, "--dry-run", "--reader", "retrieve")
    assert done.code == 0
    assert re.fullmatch(
        r"retrieve: at most \d+ calls, [\d,]+ tokens in, [\d,]+ out, about .* on this machine.*\n", done.out
    )
    assert shell("runs", "--json").json == []
    assert shell("ask", QUESTION, "--dry-run", "--json").json["estimate"]["calls"] > 0


def test_a_reader_that_is_not_there_is_refused_with_those_that_are(shell, added):
    done = shell("ask", QUESTION, "--reader", "psychic")
    assert done.code == 1
    assert "psychic" in done.err
    assert all(name in done.err for name in readers())


@pytest.fixture
def failing(shell, added, monkeypatch, tmp_path):
    """The command in this process, with a model that fails when it comes to the answer."""

    def reply(request):
        if request.id == "answer":
            raise EngineFailed("the server at 127.0.0.1:9 is gone")
        return "The capital of Freedonia is Zubrow."

    monkeypatch.setattr(Library, "engine", ScriptedEngine(reply))
    for name, value in shell.env.items():
        if name.startswith("LONGLEAF"):
            monkeypatch.setenv(name, value)

    def run(*argv):
        return CliRunner().invoke(app, [*argv, "--library", str(shell.library)])

    return run


def test_an_error_half_way_gives_what_was_read_and_says_that_it_is_partial(failing, shell):
    done = failing("ask", QUESTION, "--reader", "retrieve")
    assert done.exit_code == FAILED
    assert "The capital of Freedonia is Zubrow." in done.stdout
    assert "this is partial: the reading ended early: the server at 127.0.0.1:9 is gone" in done.stderr
    command = re.search(r"longleaf (runs resume [0-9a-f]+)", done.stderr).group(1)
    run = shell("runs", "--json").json[0]
    assert (run["status"], run["answer"]["partial"]) == ("failed", True)
    assert shell(*command.split()).code == 0


def test_an_error_half_way_is_partial_in_json_too(failing):
    done = failing("ask", QUESTION, "--reader", "retrieve", "--json")
    assert done.exit_code == FAILED
    answer = json.loads(done.stdout)
    assert answer["partial"] is True
    assert answer["found"] is True


def test_a_run_is_replayed_step_by_step(shell, added):
    shell("ask", QUESTION, "--reader", "retrieve")
    run = shell("runs", "--json").json[0]["id"]
    done = shell("runs", "show", run[:8])
    assert done.code == 0
    assert [line.split()[1] for line in done.out.splitlines() if re.match(r"\d+ ", line)][-1] == "reason"
    plain = shell("runs", "show", run, "--json").json
    assert plain["memory"] == []
    assert all(step["seconds"] >= 0 for step in plain["steps"])
