"""The command line, as real processes: what is printed, what is kept, and the exit codes."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from longleaf.engine.catalog import DEFAULT_READER

BOOK = (
    "The capital of Freedonia is Zubrow. It lies on the river Lutz, and 4,000 people live in it.\n\n"
    "The king was crowned in 1887. He was not loved by the farmers of the north. He built the bridge.\n"
)
QUESTION = "What is the capital of Freedonia?"
ANSWER = "The capital of Freedonia is Zubrow."
ESC = "\x1b"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_the_installed_command_answers(real, tmp_path):
    (tmp_path / "book.txt").write_text(BOOK)
    done = real("ask", "book.txt", QUESTION)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == ANSWER
    assert "[1] section 1" in done.stdout
    assert "verified, chosen by the model" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_version(shell):
    done = shell("--version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"longleaf \d+\.\d+\.\d+\n", done.out)


def test_an_answer_has_quotes_coverage_and_costs(shell, book):
    done = shell("ask", "book.txt", QUESTION)
    assert done.code == 0
    assert f"    {ANSWER}" in done.out
    assert re.search(r"read \d+ of \d+ characters", done.out)
    assert re.search(r"run [0-9a-f]{12}", done.out)
    assert "reading part 1 of" in done.err


def test_a_model_that_denies_an_answer_is_heard_and_what_came_closest_is_shown(shell, book):
    done = shell("ask", "book.txt", QUESTION, "--model", "scripted:Not in the text.")
    assert done.code == 3
    head, _, closest = done.out.partition("What came closest:")
    assert head.strip() == "Not in the text."
    assert f"    {ANSWER}" in closest
    assert "note: the model read the text it was given and said" in closest
    plain = shell("ask", QUESTION, "--model", "scripted:Not in the text.", "--json").json
    assert (plain["text"], plain["claims"], plain["found"]) == ("Not found in the document.", [], False)
    assert plain["closest"][0]["text"] == ANSWER


def test_an_adapter_is_refused_by_its_setting_where_it_cannot_be_used(shell, book):
    done = shell("ask", "book.txt", QUESTION, "--model", "scripted:Zubrow.", "--set", "model.adapter=~/mine")
    assert done.code == 1
    assert "setting model.adapter" in done.err


def test_two_readers_are_compared(shell, added):
    done = shell("ask", QUESTION, "--compare", "retrieve,direct")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if line in ("retrieve:", "direct:")] == ["retrieve:", "direct:"]
    assert "The answers agree." in done.out
    assert "[1] page" in done.out or "[1] section" in done.out

    plain = shell("ask", QUESTION, "--compare", "retrieve,direct", "--json")
    assert plain.json["agree"] is True
    assert [answer["reader"] for answer in plain.json["answers"]] == ["retrieve", "direct"]
    assert shell("ask", "Who invented jazz trumpets?", "--compare", "retrieve,retrieve").code == 3


def test_the_choice_of_a_reader_is_told(shell, added):
    done = shell("ask", QUESTION)
    assert "reading with retrieve: The question asks for something that stands in one place" in " ".join(
        done.err.split()
    )
    assert shell("ask", "List all the kings.", "--json").json["reader"] == "direct"


def test_questions_by_id_and_of_all(shell, added):
    other = shell.write("other.txt", "Sylvania has a capital too. The capital of Sylvania is Trentin.\n")
    shell("add", other.name)

    by_id = shell("ask", added[:8], QUESTION, "--json").json
    of_all = shell("ask", "What is the capital of Sylvania?", "--json").json

    assert {quote["document_id"] for quote in by_id["claims"][0]["quotes"]} == {added}
    assert len({quote["document_id"] for quote in of_all["claims"][0]["quotes"]}) == 2
    named = shell("ask", "What is the capital of Sylvania?").out
    assert "other.txt, section 1" in named


def test_json_quotes_stand_at_their_offsets_in_the_shown_text(shell, added):
    done = shell("ask", QUESTION, "--json")
    text = shell("show", added, "--text").out.removesuffix("\n")

    quotes = done.json["claims"][0]["quotes"]
    assert quotes
    assert all(text[quote["start"] : quote["end"]] == quote["text"] for quote in quotes)
    assert done.err == ""
    assert shell("show", added, "--text", "--json").json["text"] == text


def test_a_bad_file_does_not_keep_a_good_one_out(shell, book):
    shell.write("bad.pdf", b"%PDF-1.7 broken")
    done = shell("add", "bad.pdf", "book.txt", "absent.txt")

    assert done.code == 1
    assert "book.txt" in done.out
    assert "bad.pdf" in done.err
    assert "absent.txt" in done.err
    assert [record["title"] for record in shell("list", "--json").json] == ["book.txt"]


def test_the_same_file_twice_is_one_document(shell, added):
    assert shell("add", "book.txt", "--json").json[0]["id"] == added
    assert len(shell("list", "--json").json) == 1


def test_a_document_is_listed_shown_and_removed(shell, added):
    assert added[:12] in shell("list").out
    page = shell("show", added[:6]).out
    assert added in page
    assert "book.txt" in page
    chunks = shell("show", added, "--chunks", "--json").json["chunks"]
    assert (chunks[0]["start"], chunks[-1]["end"]) == (0, len(shell("show", added, "--json", "--text").json["text"]))
    assert "The capital of Freedonia" in shell("show", added, "--chunks").out
    assert shell("remove", added[:12]).out == "removed book.txt\n"
    assert shell("list", "--json").json == []
    assert shell("show", added).code == 1
    assert (shell.folder / "book.txt").exists()


def test_runs_are_listed_and_shown(shell, added):
    run = shell("ask", QUESTION, "--json").json["run_id"]
    assert run[:12] in shell("runs").out
    (record,) = shell("runs", "--json").json
    assert (record["id"], record["status"], record["question"]) == (run, "done", QUESTION)
    shown = shell("runs", "show", run[:8], "--json").json
    assert [step["node"] for step in shown["steps"]][-1] == "reason"
    assert ANSWER in shell("runs", "show", run[:8]).out
    again = shell("runs", "resume", run[:8])
    assert again.code == 1
    assert "is done" in again.err


def test_the_index_is_rebuilt(shell, added):
    assert shell("index").code == 2
    small = ("--set", "chunk.tokens=20", "--set", "chunk.overlap=5", "--set", "chunk.least=5")
    assert "1 document" in shell("index", "--rebuild", *small).out
    assert len(shell("show", added, "--chunks", "--json").json["chunks"]) > 1
    assert shell("ask", QUESTION).code == 0


def test_doctor_and_models_change_nothing(shell):
    checks = shell("doctor", "--json")
    assert checks.code == 0, checks.out
    assert {"python", "torch", "library", "kept documents"} <= {check["what"] for check in checks.json}
    listed = shell("models", "list").out
    assert listed.count("(default)") == 2
    assert f"{DEFAULT_READER} (default)" in listed
    assert "smollm2-135m-instruct + adapter" in " ".join(listed.split())
    assert shell("models", "list", "--json").json == []
    assert not shell.library.exists()


def test_an_empty_library_says_what_to_do(shell):
    assert "longleaf add FILE" in shell("list").out
    assert shell("list", "--json").json == []
    assert "longleaf ask FILE" in shell("runs").out
    asked = shell("ask", QUESTION)
    assert asked.code == 1
    assert "longleaf add FILE" in asked.err
    assert shell("index", "--rebuild").code == 0


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["ask", ""], 1, "question is empty"),
        (["ask", "  "], 1, "question is empty"),
        (["ask"], 2, "QUESTION"),
        (["ask", QUESTION, "--nonsense"], 2, "nonsense"),
        (["nonsense"], 2, "nonsense"),
        (["ask", "ffffffff", QUESTION], 1, "ffffffff"),
        (["show", "ffffffff"], 1, "longleaf list"),
        (["remove", "ffffffff"], 1, "longleaf list"),
        (["runs", "show", "ffffffff"], 1, "longleaf runs"),
        (["runs", "resume", "ffffffff"], 1, "longleaf runs"),
        (["ask", "absent.pdf", QUESTION], 1, "absent.pdf"),
        (["ask", "book.txt"], 2, "What is the question?"),
        (["ask", QUESTION, "--reader", "psychic"], 1, "retrieve"),
        (["ask", QUESTION, "--compare", "retrieve"], 1, "two readers"),
        (["ask", QUESTION, "--compare", "retrieve,psychic"], 1, "psychic"),
        (["ask", QUESTION, "--set", "search.pasages=3"], 1, "search.pasages"),
        (["list", "--set", "nonsense"], 1, "KEY=VALUE"),
        (["ask", QUESTION, "--set", "chunk.tokens=20"], 1, "chunk"),
        (["ask", "x" * 400, QUESTION], 1, "xxxx"),
        (["ask", "~nobody-here/book.pdf", QUESTION], 1, "nobody-here"),
    ],
)
def test_what_is_wrong_is_said_and_told_by_the_exit_code(shell, added, argv, code, said):
    done = shell(*argv)
    assert done.code == code
    assert said in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "question",
    [
        "Is /etc/hosts in the capital of Freedonia?",
        "capital/Freedonia/Zubrow.txt",
        "~nobody capital of Freedonia?",
        "capital of Freedonia " + "x" * 300,
    ],
)
def test_a_question_may_look_like_a_path(shell, added, question):
    assert shell("ask", question).code in (0, 3)


def test_what_is_not_there_is_not_found(shell, added):
    done = shell("ask", "Who invented jazz trumpets?")
    assert done.code == 3
    assert done.out.splitlines()[0] == "Not found in the document."
    assert shell("ask", "Who invented jazz trumpets?", "--json").code == 3


def test_a_second_writer_is_told_who_the_first_is_while_readers_work(shell, added):
    first = shell.start("ask", QUESTION, delay=0.5)
    first.until("reading part")

    second = shell("ask", QUESTION)
    assert second.code == 1
    assert f"process {first.pid} on" in second.err
    assert shell("add", "book.txt").code == 0  # it is there already, so nothing is written
    shell.write("new.txt", "Something new to add.")
    assert shell("add", "new.txt").code == 1
    assert added[:12] in shell("list").out
    assert shell("show", added, "--text").out.strip() == BOOK.strip()
    assert "running" in shell("runs").out

    first.kill(signal.SIGKILL)
    first.wait()
    assert shell("ask", QUESTION).code == 0


@pytest.mark.parametrize("at", ["reading part", ANSWER.split(maxsplit=1)[0]])
def test_ctrl_c_leaves_a_run_that_the_printed_command_resumes(shell, added, at):
    running = shell.start("ask", QUESTION, delay=0.15)
    running.until(at, running.err if at.startswith("reading") else running.out)
    running.kill(signal.SIGINT)
    done = running.wait()

    assert done.code == 130
    assert "Traceback" not in done.err
    command = re.search(r"longleaf (runs resume [0-9a-f]+)", done.err)
    assert command
    assert shell("runs", "--json").json[0]["status"] == "interrupted"
    resumed = shell(*command.group(1).split())
    assert resumed.code == 0
    assert ANSWER in resumed.out
    assert shell("runs", "--json").json[0]["status"] == "done"


def test_ctrl_c_on_a_resumed_run_names_that_run(shell, added):
    running = shell.start("ask", QUESTION, delay=0.15)
    running.until("reading part")
    running.kill(signal.SIGINT)
    old = re.search(r"runs resume ([0-9a-f]+)", running.wait().err).group(1)
    shell("ask", QUESTION)

    again = shell.start("runs", "resume", old, delay=0.15)
    again.until("reading part")
    again.kill(signal.SIGINT)
    done = again.wait()

    assert done.code == 130
    assert f"runs resume {old}" in done.err


def test_ctrl_c_before_a_run_names_none(shell, added):
    shell("ask", QUESTION)
    slow = shell.write("slow.txt", "word. " * 400_000)
    running = shell.start("ask", slow.name, QUESTION)
    running.until("cutting into chunks")
    running.kill(signal.SIGINT)
    done = running.wait()

    assert done.code == 130
    assert done.err.endswith("\nlongleaf: stopped.\n")
    assert "resume" not in done.err
    assert [record["title"] for record in shell("list", "--json").json] == ["book.txt"]


def test_a_reader_of_our_output_may_go_away(environment, shell):
    shell.write("long.txt", "A line of a long document, of which one is enough.\n" * 5000)
    document = shell("add", "long.txt", "--json").json[0]["id"]
    command = f"{sys.executable} -c 'from longleaf.cli import main; main()' show {document} --text | head -n 1"

    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=shell.folder, env=environment, check=False
    )

    assert done.stdout == "A line of a long document, of which one is enough.\n"
    assert done.stderr == ""


def test_markup_and_emoji_in_a_document_are_printed_as_they_are(shell):
    line = "The [bold]capital[/bold] of Freedonia :smile: is [link=x]Zubrow[/] {{question}}."
    shell.write("markup.txt", line)
    done = shell("ask", "markup.txt", QUESTION, LONGLEAF_MODEL__NAME=f"scripted:{line}")
    assert done.code == 0
    assert done.out.count(line) == 2
    run = shell("runs", "--json").json[0]["id"]
    assert line in shell("runs", "show", run).out
    shell.write("markup2.txt", "[red]Heading[/red]\n\nThe [i]end[/i].")
    other = shell("add", "markup2.txt", "--json").json[0]["id"]
    assert "[red]Heading[/red]" in shell("show", other, "--chunks").out
    # A model that says nothing: the quote itself is the answer.
    silent = shell("ask", "markup.txt", QUESTION, LONGLEAF_MODEL__NAME="scripted: ")
    assert silent.out.splitlines()[0] == line


EVIL = f"{ESC}]0;owned\x07{ESC}[2J{ESC}[31m\x9b31m\x08\r"


def test_no_escape_sequence_reaches_the_terminal(shell):
    name = f"evil{ESC}[31m\x07.txt"
    shell.write(name, f"The capital of Freedonia {EVIL}is Zubrow.\n\n{EVIL}# More {EVIL}")
    model = {"LONGLEAF_MODEL__NAME": f"scripted:Zubrow {ESC}[31mis {ESC}]0;owned\x07it\r\x9b2J."}
    asked = shell("ask", name, f"{QUESTION}{ESC}[31m", **model)
    assert asked.code == 0
    assert "Zubrow" in asked.out
    document = shell("list", "--json").json[0]["id"]
    run = shell("runs", "--json").json[0]["id"]

    seen = [asked]
    seen += [
        shell("list"),
        shell("show", document),
        shell("show", document, "--text"),
        shell("show", document, "--chunks"),
    ]
    seen += [shell("runs"), shell("runs", "show", run), shell("add", name), shell("add", f"absent{ESC}[31m.txt")]
    seen += [shell("show", f"x{ESC}[31m"), shell("ask", f"ff{ESC}[2J", QUESTION), shell("remove", document)]
    for done in seen:
        assert CONTROL.search(done.out + done.err) is None


def test_a_terminal_that_knows_few_characters_gets_an_answer(shell, book):
    done = shell("ask", "book.txt", QUESTION, PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert ANSWER in done.out


def test_a_file_name_that_is_no_text_is_no_trap(shell):
    name = os.fsdecode(b"caf\xe9.txt")
    shell.write(name, BOOK)
    done = shell("add", name)
    assert done.code == 0, done.err
    assert shell("list").code == 0
    assert shell("ask", QUESTION).code == 0


def test_a_copied_library_works_where_it_lies(shell, added):
    shutil.copytree(shell.library, shell.folder / "elsewhere")
    shutil.rmtree(shell.library)
    done = shell("ask", "-L", "elsewhere", QUESTION, "--json")
    assert done.code == 0
    assert done.json["claims"][0]["quotes"][0]["document_id"] == added
    assert not shell.library.exists()


def test_keys_are_kept_out_of_runs(shell, added):
    shell("ask", QUESTION, LONGLEAF_MODEL__API_KEY="hush-hush")
    run = shell("runs", "--json").json[0]["id"]
    assert "hush" not in shell("runs", "show", run, "--json").out
    assert b"hush" not in (shell.library / "longleaf.db").read_bytes()


def test_settings_of_the_library_are_used(shell, added):
    (shell.library / "library.toml").write_text("[answer]\nquotes = 1\n")
    assert len(shell("ask", QUESTION, "--json").json["claims"][0]["quotes"]) == 1
    assert len(shell("ask", QUESTION, "--json", "--set", "answer.quotes=2").json["claims"][0]["quotes"]) == 2


def test_another_embedder_names_the_fix_and_the_fix_works(shell, added):
    with sqlite3.connect(shell.library / "chroma" / "chroma.sqlite3") as database:
        changed = database.execute(
            "UPDATE collection_metadata SET str_value = 'another-model' WHERE key = 'fingerprint'"
        )
        assert changed.rowcount == 1
    stale = shell("ask", QUESTION)
    assert stale.code == 1
    assert "longleaf index --rebuild" in stale.err
    assert shell("index", "--rebuild").code == 0
    assert shell("ask", QUESTION).code == 0


def test_json_stays_json_when_something_fails(shell, book):
    done = shell("add", "book.txt", "absent.txt", "--json")
    assert done.code == 1
    assert [record["title"] for record in json.loads(done.out)] == ["book.txt"]
