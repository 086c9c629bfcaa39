"""`Library`: documents in, answers out. The whole SDK is this class and the values it gives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from longleaf.agents.history import keep, place
from longleaf.agents.reader import (
    Answer,
    Ask,
    Budget,
    Deps,
    Options,
    ReadAs,
    ReaderEvent,
    Recalled,
    Task,
    Warmed,
)
from longleaf.engine.gather import Gather
from longleaf.memory.records import (
    ChunkRecord,
    ConversationRecord,
    DocumentRecord,
    FactRecord,
    Feedback,
    KvAssetRecord,
    MemoryVersionRecord,
    QuestionRecord,
    RunRecord,
    StepRecord,
    SummaryRecord,
    TurnRecord,
)
from longleaf.memory.templates import Templates
from longleaf.parts import OnProgress, Parts, part
from longleaf.retrieval.text import Text
from longleaf.settings import Settings, load

if TYPE_CHECKING:
    from longleaf.agents.compare import Comparison
    from longleaf.agents.forecast import Forecast

AnswerEvent = ReaderEvent | Answer
T = TypeVar("T")


class Library(Parts):
    """A folder of documents that can be asked. Use it as a context manager, or `close` it.

    Listing and showing need nothing but the database. The first `add` or `ask` takes the writer lock, since one process
    at a time may own the embedded vector index: a second one gets `LibraryBusy` at once. Models are loaded when first
    needed and fetched when missing.
    """

    def __init__(self, settings: Settings, on_progress: OnProgress | None = None) -> None:
        super().__init__(settings, on_progress)
        self._asking = threading.Lock()
        self._asker: int | None = None

    @classmethod
    def open(
        cls,
        path: Path | str | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Library:
        """Open the library in `path` (default: `LONGLEAF_LIBRARY`, else `~/.longleaf`).

        It is made when first written to. `overrides` are settings that win over `library.toml` and the environment, as
        a nested mapping. Raises `SettingsInvalid`.
        """
        return cls(load(path, overrides), on_progress)

    # Documents

    def add(self, path: Path | str, *, ocr: bool = False, again: bool = False) -> DocumentRecord:
        """Read a file into the library. Bytes that are there already are not read twice, unless `again`.

        Raises `DocumentError` where the file cannot be read; the library is then unchanged.
        """
        from longleaf.retrieval.parsers import parse

        file = _expanded(path)
        if not again and file.is_file() and self.folder.exists():
            known = self.documents.find(_sha256(file))
            if known is not None:
                return known
        self._report("reading", 0, 0)
        parsed = parse(file, on_page=lambda done, total: self._report("reading", done, total), ocr=ocr)
        return self._index.add(parsed, os.fsencode(file.name).decode(errors="replace"), self._report)

    def list(self) -> list[DocumentRecord]:
        """All documents, oldest first; none where there is no library yet."""
        return self.documents.list() if self.folder.exists() or self.settings.database else []

    def get(self, document: str) -> DocumentRecord:
        """A document by id or the beginning of one. Raises `DocumentMissing`."""
        return self.documents.get(document)

    def text(self, document: str) -> Text:
        """The canonical text of a document. Raises `DocumentMissing`."""
        return self._shelf.text(self.get(document).id)

    def chunks(self, document: str) -> Sequence[ChunkRecord]:
        """The chunks of a document, in order. Raises `DocumentMissing`."""
        return self.documents.chunks(self.get(document).id)

    def remove(self, document: str) -> DocumentRecord:
        """Take a document out and return what it was. Raises `DocumentMissing`."""
        record = self.get(document)
        self._kept.drop(record.id)
        self._index.remove(record.id)
        return record

    def kept(self) -> Sequence[KvAssetRecord]:
        """Documents whose keys and values are kept, used last first; none where there is no library yet."""
        return self._kept.list() if self.folder.exists() or self.settings.database else []

    def warm(self, document: str) -> Warmed:
        """Read a document now, and keep what was computed, so that questions to the reader `kv` need not wait for it.

        Raises `DocumentMissing`, `CapabilityMissing` where the model keeps no documents, and what the engine raises.
        Where it is stopped, nothing of the document is kept.
        """
        from longleaf.agents.kv import warm

        ask = self._ask("", [document], "kv", "answer")
        return self._alone(lambda: warm(ask, self._deps))

    def drop_kept(self, document: str | None = None) -> Sequence[KvAssetRecord]:
        """Delete the kept keys and values of a document, or all; returns what they were. Raises `DocumentMissing`."""
        if document is None and not (self.folder.exists() or self.settings.database):
            return []
        return self._kept.drop(None if document is None else self.get(document).id)

    def rebuild(self) -> int:
        """Make chunks and vectors of all documents anew, as after a change of embedder; returns how many."""
        if "_vectors" not in self.__dict__:  # open already, it is of this embedder, and others hold on to it
            self._open_vectors(rebuild=True)
        count = self._index.rebuild(self._report)
        self._recall.rebuild()
        return count

    # Questions

    def ask(
        self,
        question: str,
        documents: Sequence[str] = (),
        *,
        reader: str | None = None,
        task: Task = "answer",
        conversation: str | None = None,
    ) -> Answer:
        """Answer a question from the given documents (ids or beginnings of ids), or from all.

        `conversation` is "new", an id, or the beginning of one: a follow-up is read against what was asked in it, of
        the same documents where it names none. The id is in `Answer.conversation`.

        `task` "summary" asks for a summary in the light of the question. Where an error ends the reading half-way, the
        answer is what was read so far: look at `Answer.partial`.
        """
        return _last(self.stream(question, documents, reader=reader, task=task, conversation=conversation))

    def stream(
        self,
        question: str,
        documents: Sequence[str] = (),
        *,
        reader: str | None = None,
        task: Task = "answer",
        conversation: str | None = None,
    ) -> Iterator[AnswerEvent]:
        """As `ask`, yielding what is read, quoted and written as it happens, and the `Answer` last.

        Closing the iterator stops the run; `resume` goes on with it. One question is answered at a time: another waits
        for it, and where it would wait for itself, asked from the loop over an open stream, `RuntimeError` is raised.
        """
        ask = self._ask(question, documents, reader, task, conversation)
        yield from self._stream(ask, owner=threading.get_ident())

    def _stream(self, ask: Ask, *, owner: int | None) -> Iterator[AnswerEvent]:
        from longleaf.agents.run import check, start

        check(ask, self.documents)
        if ask.asked:
            yield ReadAs(ask.question)
        yield from self._exclusively(lambda deps, checkpointer: start(ask, deps, checkpointer), owner)

    def _ask(
        self, question: str, documents: Sequence[str], reader: str | None, task: Task, conversation: str | None = None
    ) -> Ask:
        """A question with the bounds and options of the settings."""
        answer, read = self.settings.answer, self.settings.read
        budget = Budget(
            passages=self.settings.search.passages,
            quotes=answer.quotes,
            answer_tokens=answer.tokens,
            part_tokens=read.part_tokens,
            memory_tokens=read.memory_tokens,
            members=read.members,
            depth=read.depth,
            branches=read.branches,
            hops=read.hops,
        )
        options = Options(
            task=task,
            gate=read.gate,
            stop_when_sure=read.stop_when_sure,
            provisional_every=read.provisional_every,
            rerank=read.rerank,
            templates=read.templates,
            demonstrations=read.demonstrations,
            schema=read.memory_schema,
            overwrite=read.overwrite,
            copy_spans=read.copy_spans,
            kv_policy=read.kv_policy,
            kv_budget=read.kv_budget,
        )
        chosen = tuple(self.get(document).id for document in documents)
        ask = Ask(question, chosen, reader or answer.reader, budget, options, answer.seed)
        if conversation is None:
            return ask
        at = place(question, chosen, conversation, self._conversations, self._runs)
        asked = question if at.question != question else ""
        return replace(
            ask, question=at.question, asked=asked, document_ids=at.document_ids, conversation=at.conversation
        )

    def compare(
        self,
        question: str,
        documents: Sequence[str] = (),
        *,
        readers: Sequence[str] = ("retrieve", "memory"),
        on_event: Callable[[AnswerEvent], None] | None = None,
    ) -> Comparison:
        """Put one question to several readers, one after the other: whether they agree, and in what they differ.

        Raises as `ask` does, and `TooFewReaders` where there are not two; each answer is a run of its own.
        """
        from longleaf.agents.compare import comparable, compared

        asks = [self._ask(question, documents, name, "answer") for name in comparable(readers)]
        answers = []
        for ask in asks:
            for event in self._stream(ask, owner=threading.get_ident()):
                if on_event:
                    on_event(event)
                if isinstance(event, Answer):
                    answers.append(event)
        return compared(question, answers)

    def estimate(
        self, question: str, documents: Sequence[str] = (), *, reader: str | None = None, task: Task = "answer"
    ) -> Forecast:
        """What answering would cost at most: calls, tokens and, from a short trial of the model, seconds.

        Loads the model and asks it two short things; nothing is recorded.
        """
        from longleaf.agents.forecast import forecast

        ask = self._ask(question, documents, reader, task)
        return self._alone(lambda: forecast(ask, self._deps))

    async def ask_async(
        self,
        question: str,
        documents: Sequence[str] = (),
        *,
        reader: str | None = None,
        task: Task = "answer",
        conversation: str | None = None,
    ) -> Answer:
        """As `ask`, without blocking the event loop."""
        return await asyncio.to_thread(
            self.ask, question, documents, reader=reader, task=task, conversation=conversation
        )

    async def stream_async(
        self,
        question: str,
        documents: Sequence[str] = (),
        *,
        reader: str | None = None,
        task: Task = "answer",
        conversation: str | None = None,
    ) -> AsyncIterator[AnswerEvent]:
        """As `stream`, without blocking the event loop."""
        ask = await asyncio.to_thread(self._ask, question, documents, reader, task, conversation)
        events = self._stream(ask, owner=None)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            await asyncio.to_thread(_close, events)

    def runs(self, limit: int = 50) -> Sequence[RunRecord]:
        """The newest runs, newest first."""
        return self._runs.list(limit) if self.folder.exists() or self.settings.database else []

    def provisional(self, run: str) -> Answer:
        """An answer from what an unfinished run has read so far; the run stays as it is.

        For readers that keep a memory. Raises `RunMissing`, `RunEnded`, and `NothingToRead` where it has read nothing.
        """
        from longleaf.agents.provisional import provisional
        from longleaf.agents.run import stopped

        record = stopped(run, self._runs)
        return self._alone(lambda: provisional(record.id, self._deps))

    def memory_of(self, run: str) -> Sequence[MemoryVersionRecord]:
        """Every version of a run's memory, in order. Raises `RunMissing`."""
        return self._versions.list(self._runs.get(run).id)

    def run(self, run: str) -> tuple[RunRecord, Sequence[StepRecord]]:
        """A run by id or the beginning of one, and its steps. Raises `RunMissing`."""
        record = self._runs.get(run)
        return record, self._runs.steps(record.id)

    def resume(self, run: str) -> Iterator[AnswerEvent]:
        """Go on with a run that was stopped. Raises `RunMissing` and `RunEnded`."""
        from longleaf.agents.run import resume, stopped

        stopped(run, self._runs)
        yield from self._exclusively(lambda deps, checkpointer: resume(run, deps, checkpointer), threading.get_ident())

    # Memory

    def conversations(self, limit: int = 50) -> Sequence[ConversationRecord]:
        """Conversations, the one asked last first."""
        return self._conversations.list(limit) if self.folder.exists() or self.settings.database else []

    def conversation(
        self, conversation: str
    ) -> tuple[ConversationRecord, Sequence[TurnRecord], Sequence[SummaryRecord]]:
        """A conversation by id or the beginning of one, its turns and its summaries. Raises `ConversationMissing`."""
        record = self._conversations.get(conversation)
        return record, self._conversations.turns(record.id), self._conversations.summaries(record.id)

    def forget_conversation(self, conversation: str) -> ConversationRecord:
        """Delete a conversation with its turns and summaries; its runs and facts stay. Raises `ConversationMissing`."""
        record = self._conversations.get(conversation)
        self._conversations.delete(record.id)
        return record

    def facts(self, *, superseded: bool = False) -> Sequence[FactRecord]:
        """What is known across conversations, newest first; with `superseded`, also what was replaced since."""
        if not (self.folder.exists() or self.settings.database):
            return []
        return self._facts.list(superseded=superseded)

    def fact(self, fact: str) -> tuple[FactRecord, Sequence[FactRecord]]:
        """A fact by id or the beginning of one, and those it took the place of. Raises `FactMissing`."""
        record = self._facts.get(fact)
        return record, self._facts.history(record.id)

    def remember(self, text: str, document: str | None = None, *, replaces: str | None = None) -> FactRecord:
        """Keep your own word as a fact, about a document or about anything; `replaces` supersedes another fact.

        Raises `DocumentMissing`, `FactMissing`, and `FactUnsupported` where there is nothing to keep.
        """
        old = self._facts.get(replaces).id if replaces else None
        return self._recall.say(text, document, old)

    def pin(self, fact: str, pinned: bool = True) -> FactRecord:
        """Have a fact shown beside every answer it may concern, or no longer. Raises `FactMissing`."""
        self._facts.pin(self._facts.get(fact).id, pinned)
        return self._facts.get(fact)

    def forget(self, fact: str) -> FactRecord:
        """Delete a fact, its vector and the question that found it, and return what it was. Raises `FactMissing`.

        The run that found it, and the conversation, stay.
        """
        record = self._facts.get(fact)
        self._recall.forget(record)
        return record

    def questions(self, limit: int = 50) -> Sequence[QuestionRecord]:
        """What was asked, newest first."""
        return self._questions.recall(limit=limit) if self.folder.exists() or self.settings.database else []

    def judge(self, run: str, feedback: Feedback | None) -> None:
        """Note whether a run's answer was good. Raises `RunMissing`."""
        self._questions.judge(self._runs.get(run).id, feedback)

    def _recalled(self, question: str, document_ids: tuple[str, ...]) -> tuple[Recalled, ...]:
        wanted = self.settings.memory.recall
        return self._recall.find(question, document_ids, wanted) if wanted else ()

    def _keep(self, answer: Answer) -> None:
        """Keep what an answer found and the turn it makes; nothing of a partial one."""
        from longleaf.agents.run import ask_of

        if answer.partial:
            return
        record = self._runs.get(answer.run_id)
        ask, memory = ask_of(record), self.settings.memory
        if memory.remember and ask.options.task == "answer":
            self._recall.remember(answer, ask.question, ask.document_ids, record.started_at)
        if ask.conversation:
            keep(answer, ask, record.started_at, self._conversations, memory.history_tokens, self.engine.count)

    def close(self) -> None:
        """Free models, connections and the writer lock. Safe to call twice."""
        self._stack.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @part
    def _deps(self) -> Deps:
        deps = Deps(
            Gather(self.engine),
            self.search,
            self._shelf,
            self.documents,
            self._runs,
            self._versions,
            self._recalled,
            Templates(self.database),
            self._kept if self.settings.kv.keep else None,
        )
        self._stack.callback(deps.worker.shutdown)
        return deps

    def _alone(self, work: Callable[[], T]) -> T:
        """Do something with the model while no question is being answered."""
        if self._asker == threading.get_ident():
            raise RuntimeError("Finish or close the stream of the last question first.")
        with self._asking:
            return work()

    def _exclusively(
        self, run: Callable[[Deps, Any], Iterator[AnswerEvent]], owner: int | None
    ) -> Iterator[AnswerEvent]:
        if owner is not None and self._asker == owner:
            raise RuntimeError("Finish or close the stream of the last question before asking the next one.")
        with self._asking:
            self._asker = owner
            try:
                events = run(self._deps, self._checkpointer)
                try:
                    for event in events:
                        if isinstance(event, Answer):
                            self._keep(event)
                        yield event
                finally:
                    _close(events)
            finally:
                self._asker = None


def _expanded(path: Path | str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~name, and nobody has that name: then it is a file's name
        return Path(path)


def _last(events: Iterator[AnswerEvent]) -> Answer:
    for event in events:
        if isinstance(event, Answer):
            return event
    raise AssertionError("a run ended without an answer")


def _close(events: Iterator[AnswerEvent]) -> None:
    close = getattr(events, "close", None)
    if close is not None:
        close()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
