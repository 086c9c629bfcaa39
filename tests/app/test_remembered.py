"""Conversations and facts across processes, from the command line and the SDK; LongMemEval's abilities in miniature."""

import json
import os
import signal

import pytest

from longleaf import Library
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.memory.errors import ConversationMissing, FactMissing, LibraryBusy

BOOK = (
    "The capital of Freedonia is Zubrow. It lies on the river Lutz, and 4,000 people live in it.\n\n"
    "The king was crowned in 1887. He was not loved by the farmers of the north. He built the bridge.\n"
)
OTHER = "Sylvania has a capital too. The capital of Sylvania is Trentin.\n"
NEWER = "The capital of Freedonia is Marlau. It has been Marlau since the great flood.\n"
QUESTION = "What is the capital of Freedonia?"
ANSWER = "The capital of Freedonia is Zubrow."
SETTINGS = {"embedder": "hashed-words", "model": {"name": f"scripted:{ANSWER}"}}


def test_a_follow_up_in_another_process_is_read_against_the_question_before(shell, added):
    shell.write("other.txt", OTHER)
    other = shell("add", "other.txt", "--json").json[0]["id"]
    first = shell("ask", added, other, QUESTION, "--json").json

    then = shell("ask", "--continue", "and of Sylvania?")
    assert "read as: What is the capital of Sylvania?" in then.err
    assert "The capital of Sylvania is Trentin." in then.out

    (chat,) = shell("chats", "--json").json
    assert (chat["id"], chat["title"], chat["turns"]) == (first["conversation"], QUESTION, 2)
    shown = shell("chats", "show", chat["id"][:8], "--json").json
    assert [turn["asked"] for turn in shown["turns"]] == [QUESTION, "and of Sylvania?"]
    assert [turn["question"] for turn in shown["turns"]] == [QUESTION, "What is the capital of Sylvania?"]
    assert shown["turns"][1]["document_ids"] == [added, other]
    assert "read as: What is the capital of Sylvania?" in shell("chats", "show", chat["id"]).out


def test_a_question_in_a_conversation_by_id_and_one_that_stands_alone(shell, added):
    first = shell("ask", QUESTION, "--json").json["conversation"]
    second = shell("ask", "When was the king crowned?", "--json").json["conversation"]
    assert first != second

    third = shell("ask", "--conversation", first[:10], "When was the king crowned?", "--json").json
    assert (third["conversation"], third["read_as"]) == (first, "")
    assert [chat["id"] for chat in shell("chats", "--json").json] == [first, second]


def test_going_on_with_nothing_or_with_two_is_refused(shell, added):
    nothing = shell("ask", "--continue", QUESTION)
    assert (nothing.code, "no conversation to go on with" in nothing.err) == (1, True)
    assert shell("ask", "--continue", "--conversation", "x", QUESTION).code == 2
    missing = shell("ask", "--conversation", "ffff", QUESTION)
    assert (missing.code, "longleaf chats" in missing.err) == (1, True)
    assert "No conversations yet" in shell("chats").out
    assert "Nothing is remembered yet" in shell("memory", "list").out


def test_facts_are_listed_shown_in_later_answers_and_forgotten(shell, added):
    run = shell("ask", QUESTION, "--json").json["run_id"]

    (fact,) = shell("memory", "list", "--json").json
    assert (fact["text"], fact["quote"], fact["document_id"], fact["run_id"]) == (ANSWER, ANSWER, added, run)
    assert (fact["stale"], fact["superseded_at"], fact["source"], fact["title"]) == (False, None, "model", "book.txt")
    assert fact["id"][:12] in shell("memory", "list").out
    page = shell("memory", "show", fact["id"][:8]).out
    assert "book.txt, p. 1" in page
    assert run[:12] in page

    again = shell("ask", "Which is the capital of Freedonia?")
    assert f"known: {ANSWER}" in again.out
    assert f"longleaf memory forget {fact['id'][:12]}" in again.out
    recalled = shell("runs", "--json").json[0]["answer"]["recalled"]
    assert [item["id"] for item in recalled] == [fact["id"]]

    assert shell("memory", "forget").code == 2
    assert f"forgot {ANSWER}" in shell("memory", "forget", fact["id"][:8]).out
    assert shell("memory", "show", fact["id"]).code == 1
    assert shell("memory", "forget", fact["id"]).code == 1
    assert "forgot" in shell("memory", "forget", "--all").out
    assert shell("memory", "list", "--all", "--json").json == []
    assert "known:" not in shell("ask", QUESTION).out


def test_ones_own_word_is_remembered_and_corrected(shell, added):
    mine = shell("memory", "add", "The palace in Zubrow is closed on Mondays.", "--json").json
    assert (mine["source"], mine["scope"], mine["document_id"]) == ("user", "user", None)
    corrected = shell(
        "memory", "add", "The palace in Zubrow is closed on Tuesdays.", "--replaces", mine["id"][:8], "--pin", "--json"
    ).json
    assert corrected["pinned"]
    assert [fact["id"] for fact in shell("memory", "list", "--json").json] == [corrected["id"]]
    (old,) = shell("memory", "show", corrected["id"], "--json").json["replaced"]
    assert (old["id"], old["text"], old["superseded_by"]) == (mine["id"], mine["text"], corrected["id"])
    assert "known: The palace in Zubrow is closed on Tuesdays." in shell("ask", QUESTION).out
    assert shell("memory", "add", "?!").code == 1


def test_all_that_is_remembered_can_be_exported(shell, added):
    shell("ask", QUESTION)
    shell("ask", "--continue", "Who invented jazz trumpets?")
    lines = [json.loads(line) for line in shell("memory", "export").out.splitlines()]

    assert [line["kind"] for line in lines] == ["fact", "question", "question", "conversation", "turn", "turn"]
    assert (lines[0]["text"], lines[0]["quote"]) == (ANSWER, ANSWER)
    assert [line["found"] for line in lines[1:3]] == [False, True]
    assert lines[4]["answer"] == ANSWER


def test_removing_a_document_keeps_its_facts_and_says_that_they_are_stale(shell, added):
    shell("ask", QUESTION)
    shell("remove", added)

    (fact,) = shell("memory", "list", "--json").json
    assert (fact["stale"], fact["title"], fact["text"]) == (True, "book.txt", ANSWER)
    assert "STALE" in shell("memory", "list").out
    assert "removed" in shell("memory", "show", fact["id"]).out
    shell.write("other.txt", OTHER)
    shell("add", "other.txt")
    assert "STALE" in shell("ask", QUESTION).out


def test_a_conversation_is_removed_and_its_facts_stay(shell, added):
    chat = shell("ask", QUESTION, "--json").json["conversation"]
    assert shell("chats", "remove", chat[:8]).out == f"removed {QUESTION}\n"
    assert shell("chats", "--json").json == []
    assert shell("chats", "show", chat).code == 1
    assert len(shell("memory", "list", "--json").json) == 1


def test_nothing_is_remembered_where_that_is_turned_off(shell, added):
    answer = shell("ask", QUESTION, "--json", "--set", "memory.remember=false").json
    assert answer["conversation"] == ""
    assert shell("memory", "export").out == ""
    shell("ask", QUESTION)
    assert "known:" in shell("ask", QUESTION).out
    assert "known:" not in shell("ask", QUESTION, "--set", "memory.recall=0").out


def test_a_run_that_was_stopped_takes_its_turn_when_it_ends(shell, added):
    running = shell.start("ask", QUESTION, delay=1.0)
    running.until("reading part")
    running.kill(signal.SIGKILL)
    running.wait()
    assert shell("chats", "--json").json == []

    run = shell("runs", "--json").json[0]["id"]
    answer = shell("runs", "resume", run, "--json").json
    (chat,) = shell("chats", "--json").json
    assert (chat["id"], chat["title"], chat["turns"]) == (answer["conversation"], QUESTION, 1)
    assert len(shell("memory", "list", "--json").json) == 1


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library", overrides=SETTINGS) as opened:
        yield opened


def add(library, tmp_path, text, name="book.txt"):
    path = tmp_path / name
    path.write_text(text)
    return library.add(path)


def says(library, wording):
    """Have the model answer this from now on."""
    library.close()
    again = Library.open(library.folder.path, overrides=SETTINGS)
    again.__dict__["engine"] = ScriptedEngine([wording])
    return again


def test_extraction_what_was_found_is_found_again_with_its_source(library, tmp_path):
    book = add(library, tmp_path, BOOK)
    library.ask(QUESTION)
    (known,) = library.ask("Which is the capital of Freedonia?").recalled
    assert (known.text, known.document_id, known.page, known.quote) == (ANSWER, book.id, 1, ANSWER)


def test_several_sessions_are_brought_together(library, tmp_path):
    add(library, tmp_path, BOOK + OTHER)
    library.ask(QUESTION, conversation="new")
    library.close()
    with says(library, "The capital of Sylvania is Trentin.") as second:
        second.ask("What is the capital of Sylvania?", conversation="new")
        assert len(second.conversations()) == 2
        recalled = second.ask("What are the capital of Freedonia and the capital of Sylvania?").recalled
    assert {known.text for known in recalled} == {ANSWER, "The capital of Sylvania is Trentin."}


def test_knowledge_is_updated_and_the_old_answer_never_comes_back(library, tmp_path):
    add(library, tmp_path, BOOK)
    library.ask(QUESTION)
    with says(library, "Zubrow, on the river Lutz.") as again:
        again.ask(QUESTION)
        assert [fact.text for fact in again.facts()] == ["Zubrow, on the river Lutz."]
        assert {fact.text for fact in again.facts(superseded=True)} == {ANSWER, "Zubrow, on the river Lutz."}
        assert [known.text for known in again.ask(QUESTION).recalled] == ["Zubrow, on the river Lutz."]


def test_a_new_edition_of_a_document_leaves_what_the_old_one_said_stale(library, tmp_path):
    old = add(library, tmp_path, BOOK)
    library.ask(QUESTION)
    add(library, tmp_path, NEWER, "newer.txt")
    library.remove(old.id)
    with says(library, "The capital of Freedonia is Marlau.") as again:
        again.ask(QUESTION)
        first, second = again.ask(QUESTION).recalled
        assert (first.text, first.stale) == ("The capital of Freedonia is Marlau.", False)
        assert (second.text, second.stale) == (ANSWER, True)


def test_questions_about_time_are_answered_from_the_time_of_asking(library, tmp_path):
    add(library, tmp_path, BOOK)
    library.ask(QUESTION)
    library.ask("When was the king crowned?")
    assert library.ask("What did I ask first?").recalled[0].question == QUESTION
    assert library.ask("What did I ask about the capital last week?").recalled == ()
    asked = library.ask("What did I ask before the question about the king?").recalled
    assert [known.question for known in asked] == [QUESTION]


def test_what_was_never_found_is_not_remembered_as_known(library, tmp_path):
    add(library, tmp_path, BOOK)
    answer = library.ask("Who invented jazz trumpets?")
    assert not answer.found
    assert library.facts() == []
    assert library.ask("Who invented jazz trumpets?").recalled == ()


def test_a_long_conversation_is_summarised_and_kept_whole(tmp_path):
    overrides = SETTINGS | {"memory": {"history_tokens": 64}}
    with Library.open(tmp_path / "library", overrides=overrides) as library:
        add(library, tmp_path, BOOK)
        chat = library.ask(QUESTION, conversation="new").conversation
        for _ in range(9):
            library.ask("When was the king crowned?", conversation=chat)
        assert library.ask("Who loved him?", conversation=chat).read_as == "Who loved the king?"
        record, turns, summaries = library.conversation(chat)
    assert (record.turns, len(turns)) == (11, 11)
    assert summaries
    assert summaries[0].tokens <= 32
    assert QUESTION in summaries[0].text


def test_the_index_of_facts_is_rebuilt_with_the_others(library, tmp_path):
    add(library, tmp_path, BOOK)
    library.ask(QUESTION)
    assert library.rebuild() == 1
    assert library.ask(QUESTION).recalled


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", ["after the fact is in SQL", "after the vector is gone"])
def test_a_kill_between_sql_and_the_index_heals(library, tmp_path, moment):
    add(library, tmp_path, BOOK)
    library.ask(QUESTION)
    library.close()

    pid = os.fork()
    if pid == 0:
        from longleaf.agents.recall import Recall
        from longleaf.memory.facts import Facts

        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        child = Library.open(tmp_path / "library", overrides=SETTINGS)
        if moment == "after the fact is in SQL":
            Recall._index = die
            child.remember("The palace in Zubrow is closed on Mondays.")
        else:
            Facts.forget = die
            child.forget(child.facts()[0].id)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL

    with Library.open(tmp_path / "library", overrides=SETTINGS) as again:
        known = again.facts()
        assert len(known) == (2 if moment == "after the fact is in SQL" else 1)
        asked = "When is the palace in Zubrow closed?" if len(known) == 2 else QUESTION
        assert again.ask(asked).recalled[0].id == known[0].id


def test_reading_what_is_remembered_needs_no_lock_and_forgetting_does(library, tmp_path):
    add(library, tmp_path, BOOK)
    chat = library.ask(QUESTION, conversation="new").conversation
    with Library.open(tmp_path / "library", overrides=SETTINGS) as second:
        (fact,) = second.facts()
        assert second.fact(fact.id[:6])[0] == fact
        assert second.conversation(chat[:6])[0].id == chat
        with pytest.raises(LibraryBusy):
            second.forget(fact.id)
        with pytest.raises(FactMissing):
            second.fact("nothing")
        with pytest.raises(ConversationMissing):
            second.conversation("nothing")
    assert library.facts() == [fact]


def test_an_empty_place_remembers_nothing_and_is_not_made(tmp_path):
    with Library.open(tmp_path / "nothing", overrides=SETTINGS) as library:
        assert (library.facts(), library.conversations(), library.questions()) == ([], [], [])
    assert not (tmp_path / "nothing").exists()
