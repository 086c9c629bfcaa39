"""Reading ahead with a model of random weights: kept, found, counted, and gone with its document."""

import pytest
from tiny_llama import write_model

from longleaf import Library
from longleaf.agents.prompt import load
from longleaf.agents.reader import Wording
from longleaf.engine.contract import Request, Sampling, complete

BOOK = "The capital of Freedonia is Zubrow. It lies on the river Lutz.\n\n" + "Wheat grew on the farm. " * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a two-layer model with a window of 4,096 bytes or so."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny-llama", window=4096, seed=3)


@pytest.fixture
def opened(model, tmp_path):
    (tmp_path / "book.txt").write_text(BOOK)

    def opened(**kv):
        settings = {
            "embedder": "hashed-words",
            "model": {"name": str(model), "dtype": "float32", "device": "cpu"},
            "answer": {"tokens": 8},
            "kv": kv,
        }
        return Library.open(tmp_path / "library", overrides=settings)

    return opened


def added(library, tmp_path):
    return library.add(tmp_path / "book.txt").id


def computed(library, question):
    """What the model replies to the same prompt where nothing of it was kept."""
    messages = load("kv").messages(document=BOOK.strip(), question=question)
    return complete(library._deps.engine, Request("plain", messages, Sampling(max_tokens=8, stop=("\n\n",))))


def test_a_document_is_read_ahead_found_after_a_restart_and_counted(opened, tmp_path):
    with opened() as library:
        document = added(library, tmp_path)
        warmed = library.warm(document)
        (row,) = library.kept()
        assert (warmed.found, warmed.plan, row.hits) == (0, "dense", 0)
        assert (row.document_id, row.model, row.tokens, row.bytes) == (
            document,
            "tiny-llama",
            warmed.tokens,
            warmed.bytes,
        )
    with opened() as library:
        answer = library.ask("Which river?", [document], reader="kv")
        again = library.ask("Which capital?", [document], reader="kv")
        (row,) = library.kept()
        assert row.hits == 2
        assert [answer.usage.calls, again.usage.calls] == [1, 1]
        assert answer.usage.cached_tokens == again.usage.cached_tokens == warmed.tokens
        plain = computed(library, "Which river?")
        assert answer.text == plain.text.strip()
        assert answer.usage.prompt_tokens == plain.usage.prompt_tokens
        assert answer.looked
        assert all(BOOK[looked.start : looked.end] == looked.text for looked in answer.looked)
        assert library.ask("Which river?", [document]).reader == "kv"
        library.remove(document)
        assert library.kept() == []
    assert not list((tmp_path / "library" / "kv").glob("documents/*"))


def test_a_limit_lets_what_was_used_longest_ago_go(opened, tmp_path):
    (tmp_path / "other.txt").write_text(BOOK.replace("Wheat", "Barley"))
    with opened(size_limit=0.0009) as library:
        first = added(library, tmp_path)
        size = library.warm(first).bytes
    with opened(size_limit=1.5 * size / 1e9) as library:
        second = library.add(tmp_path / "other.txt").id
        library.warm(second)
        assert [row.document_id for row in library.kept()] == [second]


def test_nothing_is_kept_where_the_setting_says_so(opened, tmp_path):
    with opened(keep=False) as library:
        document = added(library, tmp_path)
        assert library.warm(document).bytes == 0
        assert library.ask("Which river?", [document], reader="kv").usage.calls == 1
        assert library.kept() == []


def test_ctrl_c_while_reading_leaves_nothing(opened, tmp_path, monkeypatch):
    from longleaf.engine.attention.runner import Runner

    run, calls = Runner._run, iter(range(100))

    def interrupted(self, *arguments, **options):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return run(self, *arguments, **options)

    with opened() as library:
        document = added(library, tmp_path)
        monkeypatch.setattr(Runner, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            library.warm(document)
        assert library.kept() == []
        assert not list((tmp_path / "library" / "kv").glob("segments/*/*"))
        assert library.warm(document).found == 0


def test_a_question_that_is_broken_off_can_be_gone_on_with(opened, tmp_path):
    with opened() as library:
        document = added(library, tmp_path)
        events = library.stream("Which river?", [document], reader="kv")
        for event in events:
            if isinstance(event, Wording):
                break
        events.close()
        (run,) = library.runs()
        *_, answer = library.resume(run.id)
        assert answer.text == computed(library, "Which river?").text.strip()


def test_a_model_that_keeps_nothing_says_so(shell, added):
    done = shell("kv", "warm", added)
    assert done.code == 1
    assert "longleaf models list" in done.err


def test_a_damaged_file_is_no_answer(opened, tmp_path):
    with opened() as library:
        document = added(library, tmp_path)
        said = library.ask("Which river?", [document], reader="kv").text
    for file in (tmp_path / "library" / "kv").glob("segments/*/*.kv"):
        content = bytearray(file.read_bytes())
        content[-30] ^= 0xFF
        file.write_bytes(content)
    with opened() as library:
        assert library.ask("Which river?", [document], reader="kv").text == said
