"""Documents that `TorchEngine` keeps open: read once, asked many times, and found again tomorrow."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from longleaf.engine.attention.contract import Attend
from longleaf.engine.attention.document import Document, Kept, open_document
from longleaf.engine.attention.plans import ReadingPlan, plan_named
from longleaf.engine.attention.runner import Runner, shape_of
from longleaf.engine.attention.turn import Turn
from longleaf.engine.attention.watched import Watched
from longleaf.engine.contract import (
    Done,
    Event,
    Failed,
    Head,
    Keeping,
    KeptFile,
    Message,
    ModelCard,
    PageRead,
    Request,
    TextRead,
)
from longleaf.engine.errors import EngineFailed, FingerprintMismatch, LongleafError, SegmentDamaged, WindowExceeded
from longleaf.engine.grammar import Grammars
from longleaf.engine.pages.asset import AssetFolder
from longleaf.engine.pages.chain import tokens_digest
from longleaf.engine.pages.host import HostTier
from longleaf.engine.pages.quantise import Format, record_bytes
from longleaf.engine.pages.store import PageStore
from longleaf.engine.prompt import PromptForm
from longleaf.engine.row import Row

_PAGE, _LONG_PAGE = 32, 64
"""Tokens of a page: small where it is to be evidence, larger where pages are chosen from hundreds of thousands."""

_BUDGET = 512
_EXACT: Format = "exact"
_LONG: Format = "int8"
_ATTEMPTS = 4
"""Openings of a document whose files turn out damaged; each finds at least one file less."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What of an engine is needed to read documents. `lock` is held while the model runs, `heads` find answers, `chunk`
    tokens of a document are computed at once, and those that are open take `room` bytes together. `attend` is as in
    `Runner`."""

    model: Any
    tokenizer: Any
    form: PromptForm
    card: ModelCard
    ends: Collection[int]
    grammars: Grammars
    heads: tuple[Head, ...] | None
    lock: threading.Lock
    chunk: int
    room: int
    attend: Attend | None


class OpenDocuments:
    """The documents of one engine that are open. What was used longest ago is closed for the next."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open: OrderedDict[tuple[Any, ...], TorchDocument] = OrderedDict()

    def open(
        self,
        messages: Sequence[Message],
        plan: str,
        budget: int | None,
        room: int,
        keeping: Keeping | None,
        stop: Callable[[], bool] | None,
    ) -> TorchDocument:
        """As `ReadsDocuments.open_document`."""
        began, parts = time.perf_counter(), self._parts
        ids = parts.form.beginning(messages)
        fits = len(ids) + room <= parts.card.window
        chosen = plan_named(plan, parts.card.window, budget=budget or _BUDGET)
        if not fits:
            chosen = plan_named("infllm", parts.card.window, heads=parts.heads or ())
        elif chosen.name == "dense":
            chosen = replace(chosen, answering=Watched(parts.heads))
        stored = keeping.stored if keeping is not None and keeping.stored != "auto" else _EXACT if fits else _LONG
        key = (tokens_digest(ids), repr(chosen), stored, keeping)
        with parts.lock:
            known = self._open.get(key)
            if known is None:
                known = TorchDocument(parts, tuple(messages), ids, chosen, stored, keeping)
                known.read(stop)
                self._open[key] = known
                self._make_room(known)
            else:
                known.found = known.tokens
            self._open.move_to_end(key)
            known.seconds = time.perf_counter() - began
            return known

    def clear(self) -> None:
        """Close all. The caller holds the lock."""
        for document in self._open.values():
            document.close()
        self._open.clear()

    def _make_room(self, newest: TorchDocument) -> None:
        total = sum(document.bytes for document in self._open.values())
        for key, document in list(self._open.items()):
            if total <= self._parts.room:
                return
            if document is not newest and not document.busy:
                total -= document.bytes
                document.close()
                del self._open[key]


class TorchDocument:
    """A document that is open; see `OpenDocument`. `busy` counts the replies that are being made."""

    def __init__(
        self,
        parts: Parts,
        messages: tuple[Message, ...],
        ids: list[int],
        plan: ReadingPlan,
        stored: Format,
        keeping: Keeping | None,
    ) -> None:
        self.tokens = len(ids)
        self.found = 0
        self.seconds = 0.0
        self.plan = plan.name
        self.kept: KeptFile | None = None
        self.busy = 0
        self._parts = parts
        self._messages = messages
        self._ids = ids
        self._plan = plan
        self._stored = stored
        self._keeping = keeping
        self._document: Document | None = None
        self._places: list[tuple[int, int]] | None = None

    @property
    def bytes(self) -> int:
        """Memory that its keys and values take, about."""
        shape = shape_of(self._parts.model, self._page)
        return shape.pages(self.tokens) * shape.layers * record_bytes(shape, _EXACT if self._inside else _LONG)

    @property
    def _inside(self) -> bool:
        return self._plan.positions is None

    @property
    def _page(self) -> int:
        return _PAGE if self._inside else _LONG_PAGE

    def read(self, stop: Callable[[], bool] | None = None) -> None:
        """Read what is not kept, and keep it. The caller holds the lock."""
        for _ in range(_ATTEMPTS):
            try:
                self._document = self._opened(stop, kept=True)
                break
            except SegmentDamaged as error:
                _log.warning("%s", error)
        else:
            self._document = self._opened(stop, kept=False)
        self.found = self._document.found
        self._keep(self._document)

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """As `OpenDocument.generate`."""
        for request in requests:
            try:
                yield from self._reply(request)
            except LongleafError as error:
                yield Failed(request.id, error, transient=getattr(error, "transient", False))

    def close(self) -> None:
        """Let go of keys and values. The caller holds the lock."""
        if self._document is not None:
            self._document.close()
        self._document = None

    def _reply(self, request: Request) -> Iterator[Event]:
        parts = self._parts
        asked = parts.form.after(self._messages, request.messages, request.prefix)
        grammar = request.sampling.grammar
        matcher = parts.grammars.matcher(grammar) if grammar is not None else None
        room = request.sampling.max_tokens
        if self._inside:
            room = min(room, parts.card.window - self.tokens - len(asked.ids))
            if room < 1:
                raise WindowExceeded(
                    f"document and question have {self.tokens + len(asked.ids)} tokens and {parts.card.name} holds "
                    f"{parts.card.window}, reply included. Ask a shorter question, or use `--reader retrieve`."
                )
        # The row's prompt is the question alone: what stands before it is in the pages.
        row = Row(request, asked, room=room, tokenizer=parts.tokenizer, ends=parts.ends, matcher=matcher)
        turn: Turn | None = None
        try:
            self.busy += 1
            yield from row.start()
            while not row.finished:
                with parts.lock:
                    began = time.perf_counter()
                    turn, token = self._next(turn, row)
                    row.seconds += time.perf_counter() - began
                for event in row.accept(token):
                    yield self._told(event, turn) if isinstance(event, Done) else event
        finally:
            self.busy -= 1
            if turn is not None:
                with parts.lock:
                    turn.close()

    @torch.inference_mode()
    def _next(self, turn: Turn | None, row: Row) -> tuple[Turn, int]:
        """The turn, begun or gone on with, and the token it comes to."""
        for _ in range(_ATTEMPTS):
            if self._document is None:
                raise EngineFailed(f"the document was closed while {self._parts.card.name} was answering; ask again")
            try:
                if turn is None:
                    turn = self._document.begin(list(row.ids), room=max(1, row.most - row.length))
                logits = turn.step()
            except SegmentDamaged as error:
                # The file is gone. What it held is computed anew, and the reply goes on where it was.
                _log.warning("%s", error)
                turn = None
                self.read()
                continue
            except RuntimeError as error:
                if not isinstance(error, torch.OutOfMemoryError):
                    raise
                raise EngineFailed(
                    f"the question does not fit the GPU's memory beside the document and {self._parts.card.name}; "
                    "ask a shorter one, or use device='cpu'"
                ) from error
            row.constrain(logits)
            token = row.sampler.draw(logits)
            turn.accept(token)
            return turn, token
        raise EngineFailed("the files of the document are damaged again and again; see to the disk")

    def _told(self, done: Done, turn: Turn) -> Done:
        usage = replace(done.usage, prompt_tokens=self.tokens + done.usage.prompt_tokens, cached_tokens=self.tokens)
        return replace(done, usage=usage, reads=tuple(self._characters(turn.reads())))

    def _characters(self, reads: Sequence[PageRead]) -> Iterator[TextRead]:
        """Where pages stand in the document's text; those of the frame before it are none of it.

        Nor does the last one count where it is not full: the question begins in it, and is looked at whatever it asks.
        """
        if not reads:
            return
        if self._places is None:
            self._places = self._parts.form.places(self._messages)
        for read in reads:
            if read.end - read.start < self._page:
                continue
            first, last = self._places[read.start], self._places[read.end - 1]
            if last[1] > 0:
                yield TextRead(max(0, first[0]), last[1], read.score)

    def _store(self) -> PageStore:
        parts = self._parts
        shape = shape_of(parts.model, self._page)
        if self._inside:
            return PageStore(shape, device=parts.model.device)
        return PageStore(shape, device=parts.model.device, host=HostTier(), format=_LONG)

    def _opened(self, stop: Callable[[], bool] | None, *, kept: bool) -> Document:
        parts, plan = self._parts, self._plan
        store = self._store()
        runner = Runner(
            parts.model,
            store,
            summary=plan.summary,
            positions=plan.positions,
            attend=parts.attend,
            chunk=parts.chunk,
        )
        where = self._kept(store) if kept else None
        try:
            return open_document(runner, self._ids, plan, window=parts.card.window, kept=where, stop=stop)
        except FingerprintMismatch as error:
            # Another model, or another way of reading, keeps this text too. Both may; neither serves the other.
            _log.info("%s", error)
        return open_document(runner, self._ids, plan, window=parts.card.window, stop=stop)

    def _kept(self, store: PageStore) -> Kept | None:
        if self._keeping is None or not self._parts.card.weights:
            return None
        card = self._parts.card
        mark = self._plan.fingerprint(card.weights, card.tokenizer, store, self._stored)
        return Kept(AssetFolder(self._keeping.folder, self._keeping.limit), mark)

    def _keep(self, document: Document) -> None:
        where = self._kept(document.store)
        if where is None:
            return
        asset = where.folder.find(self._ids, where.fingerprint)
        try:
            if asset is None or document.found < self.tokens:
                asset = document.keep(where)
        except OSError as error:
            _log.warning("keys and values could not be kept in %s: %s", where.folder.path, error)
            return
        path = f"documents/{asset.name}.json"
        self.kept = KeptFile(asset.name, asset.fingerprint.digest, asset.tokens, asset.bytes, path)
