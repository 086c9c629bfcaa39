"""The SDK: open, add, ask, in one piece, streamed and async."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from longleaf import Answer, Library
from longleaf.agents.errors import NothingToRead, QuestionEmpty, ReaderUnknown, TooFewReaders
from longleaf.agents.reader import Chosen, QuoteFound, Reading, Wording
from longleaf.engine.backends.scripted import ScriptedEngine
from longleaf.memory.database import Database
from longleaf.memory.errors import DocumentMissing, IndexStale, LibraryBusy, RunMissing
from longleaf.retrieval.errors import DocumentError

BOOK = "The capital of Freedonia is Zubrow. It lies on the river Lutz.\n\nThe king was crowned in 1887.\n"
QUESTION = "What is the capital of Freedonia?"
ANSWER = "The capital of Freedonia is Zubrow."
SETTINGS = {"embedder": "hashed-words", "model": {"name": f"scripted:{ANSWER}"}}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(BOOK)
    return path


@pytest.fixture
def library(tmp_path):
    with Library.open(tmp_path / "library", overrides=SETTINGS) as opened:
        yield opened


@pytest.fixture
def book(library, file):
    return library.add(file)


def test_add_and_ask(library, book):
    answer = library.ask(QUESTION)

    assert isinstance(answer, Answer)
    assert (answer.text, answer.found) == (ANSWER, True)
    assert answer.quotes[0].text == ANSWER
    text = library.text(book.id)
    assert all(text.characters[quote.start : quote.end] == quote.text for quote in answer.quotes)
    assert library.ask(QUESTION, [book.id[:8]]).quotes == answer.quotes
    assert library.run(answer.run_id)[0].answer["text"] == ANSWER
    assert [record.id for record in library.runs()][-1] == answer.run_id


def test_the_same_file_is_added_once(library, book, file, tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_text(BOOK)
    assert library.add(str(file)) == library.add(copy) == library.add(file, again=True) == book
    assert library.list() == [book]


def test_two_readers_are_asked_and_compared(library, book):
    comparison = library.compare(QUESTION, [book.id], readers=("retrieve", "direct"))
    assert [answer.reader for answer in comparison.answers] == ["retrieve", "direct"]
    assert comparison.agree
    assert len(library.runs()) == 2
    with pytest.raises(TooFewReaders):
        library.compare(QUESTION, readers=("retrieve",))
    with pytest.raises(ReaderUnknown):
        library.compare(QUESTION, readers=("retrieve", "psychic"))
    assert len(library.runs()) == 2


def test_a_stream_ends_with_the_answer(library, book):
    *events, answer = library.stream(QUESTION)
    assert isinstance(answer, Answer)
    assert {type(event) for event in events} == {Chosen, Reading, QuoteFound, Wording}


def test_async_forms_give_the_same(library, book):
    async def both():
        events = [event async for event in library.stream_async(QUESTION)]
        answers = await asyncio.gather(*(library.ask_async(QUESTION) for _ in range(3)))
        return events, answers

    events, answers = asyncio.run(both())
    assert isinstance(events[-1], Answer)
    assert {answer.text for answer in (*answers, events[-1])} == {ANSWER}
    assert {run.status for run in library.runs()} == {"done"}


def test_leaving_an_async_stream_interrupts_the_run_and_the_library_goes_on(library, book):
    async def leave():
        events = library.stream_async(QUESTION)
        async for _ in events:
            break
        await events.aclose()
        return await library.ask_async(QUESTION)

    assert asyncio.run(leave()).text == ANSWER
    done, left = library.runs()
    assert (done.status, left.status) == ("done", "interrupted")
    assert list(library.resume(left.id))[-1].text == ANSWER


def test_close_twice_and_open_again(tmp_path, file):
    library = Library.open(tmp_path / "library", overrides=SETTINGS)
    library.add(file)
    library.ask(QUESTION)
    library.close()
    library.close()

    with Library.open(tmp_path / "library", overrides=SETTINGS) as again:
        assert again.ask(QUESTION).text == ANSWER


def test_a_second_library_on_the_folder_is_busy_but_can_read(library, book, tmp_path):
    with Library.open(tmp_path / "library", overrides=SETTINGS) as second:
        with pytest.raises(LibraryBusy):
            second.ask(QUESTION)
        assert second.list() == [book]
        assert second.text(book.id).characters.strip() == BOOK.strip()


def test_reading_an_empty_place_makes_nothing(tmp_path):
    with Library.open(tmp_path / "nothing", overrides=SETTINGS) as library:
        assert (library.list(), library.runs()) == ([], [])
    assert not (tmp_path / "nothing").exists()


def test_what_cannot_be_added_or_asked_is_refused(library, book, tmp_path):
    with pytest.raises(DocumentError, match=r"absent\.txt"):
        library.add(tmp_path / "absent.txt")
    with pytest.raises(QuestionEmpty):
        library.ask(" ")
    with pytest.raises(DocumentMissing):
        library.ask(QUESTION, ["ffff"])
    assert library.list() == [book]
    assert library.remove(book.id[:10]) == book
    with pytest.raises(NothingToRead):
        library.ask(QUESTION)


@pytest.mark.parametrize("before", ["nothing", "added", "asked"])
def test_an_index_is_rebuilt_and_searched_in_one_go(library, file, before):
    if before != "nothing":
        library.add(file)
    if before == "asked":
        library.ask(QUESTION)
    assert library.rebuild() == (0 if before == "nothing" else 1)
    library.add(file)
    assert library.ask(QUESTION).text == ANSWER
    assert library.search.find(QUESTION).passages


def test_another_embedder_is_stale_until_rebuilt(library, book, tmp_path):
    from longleaf.memory.vectors import Vectors

    library.close()
    Vectors.open(tmp_path / "library" / "chroma", "another", 256, rebuild=True).close()
    with Library.open(tmp_path / "library", overrides=SETTINGS) as again:
        with pytest.raises(IndexStale, match="longleaf index --rebuild"):
            again.ask(QUESTION)
        assert again.rebuild() == 1
        assert again.ask(QUESTION).text == ANSWER


def test_progress_is_told(tmp_path, file):
    told = []
    with Library.open(
        tmp_path / "library", overrides=SETTINGS, on_progress=lambda *stage: told.append(stage)
    ) as library:
        library.add(file)
    assert list(dict.fromkeys(what for what, _, _ in told)) == ["reading", "chunk", "embed", "write"]
    assert told[-1] == ("write", 1, 1)


def test_an_engine_of_ones_own_can_be_used(library, book):
    library.__dict__["engine"] = ScriptedEngine(["Zubrow it is."])
    assert library.ask(QUESTION).text == "Zubrow it is."


def test_a_library_that_threads_share_is_opened_once(library, book, monkeypatch):
    opened = []
    real = Database.open

    def slowly(where):
        opened.append(where)
        time.sleep(0.05)
        return real(where)

    monkeypatch.setattr(Database, "open", slowly)
    with Library.open(library.folder.path) as again, ThreadPoolExecutor(8) as threads:
        lists = list(threads.map(lambda _: [document.id for document in again.list()], range(8)))
    assert lists == [[book.id]] * 8
    assert len(opened) == 1


def test_a_library_does_not_wait_for_the_model_of_another(library, tmp_path, monkeypatch):
    loading, loaded = Event(), Event()

    def slowly(name, *_, **__):
        loading.set()
        assert loaded.wait(10)
        return ScriptedEngine([""])

    monkeypatch.setattr("longleaf.engine.backends.open.open_engine", slowly)
    with Library.open(tmp_path / "another", overrides=SETTINGS) as another, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(lambda: another.engine)
        assert loading.wait(10)
        monkeypatch.setattr("longleaf.engine.backends.open.open_engine", lambda *_, **__: ScriptedEngine([""]))
        try:
            assert threads.submit(lambda: library.engine).result(5)
        finally:
            loaded.set()
        assert slow.result(5)


def test_asking_inside_an_open_stream_is_an_error_and_not_a_hang(library, book):
    events = library.stream(QUESTION)
    next(events)

    with pytest.raises(RuntimeError, match="close the stream"):
        library.ask(QUESTION)

    events.close()
    assert library.ask(QUESTION).found


def test_what_cannot_be_asked_is_refused_before_a_model_is_fetched(tmp_path):
    settings = {"embedder": "hashed-words", "model": {"name": "no-such-model"}}
    with Library.open(tmp_path / "library", overrides=settings) as opened:
        with pytest.raises(NothingToRead):
            opened.ask(QUESTION)
        with pytest.raises(RunMissing):
            list(opened.resume("abc"))
