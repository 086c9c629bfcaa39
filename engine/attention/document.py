"""`Document`: keys and values of a document in a store, and replies to questions about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from longleaf.engine.attention.cache import everything
from longleaf.engine.attention.contract import BlockMask, Chunk, Eviction, IndexesDocuments, LooksFirst, Policy
from longleaf.engine.attention.plans import ReadingPlan
from longleaf.engine.attention.policies.dense import DenseDecode
from longleaf.engine.attention.reads import Recorder
from longleaf.engine.attention.runner import Runner, States
from longleaf.engine.attention.speculative import speculate
from longleaf.engine.attention.turn import Turn
from longleaf.engine.contract import Reply, StopReason, Usage
from longleaf.engine.errors import WindowExceeded

if TYPE_CHECKING:
    from longleaf.engine.pages.asset import Asset, AssetFolder
    from longleaf.engine.pages.fingerprint import Fingerprint
    from longleaf.engine.pages.store import PageStore


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a document's keys and values are kept, and what must be the same for them to be of use."""

    folder: AssetFolder
    fingerprint: Fingerprint


Pick = Callable[[torch.Tensor], int]
"""The next token for logits `[vocabulary]`."""


def greedy(logits: torch.Tensor) -> int:
    """The likeliest token."""
    return int(logits.argmax())


def open_document(
    runner: Runner,
    tokens: Sequence[int],
    plan: ReadingPlan,
    *,
    window: int,
    kept: Kept | None = None,
    stop: Callable[[], bool] | None = None,
) -> Document:
    """Read a document into the runner's store, chunk by chunk; what is `kept` of it is mapped and not read again.

    The runner must have the plan's summary and positions. Raises `WindowExceeded` where the plan holds no more than the
    model's `window`, `Stopped` where `stop` said so between chunks, `PagesFull` where there is no room; nothing of the
    document then stays. Raises `FingerprintMismatch` as `AssetFolder.open` does.
    """
    if plan.positions is None and len(tokens) >= window:
        raise WindowExceeded(
            f"the document has {len(tokens)} tokens and the model holds {window}, question and reply included; "
            "read it by the plan infllm"
        )
    sequence, held = runner.store.new(), 0
    if kept is not None:
        runner.store.drop(sequence)
        opened = kept.folder.open(runner.store, tokens, kept.fingerprint)
        sequence, held = opened.sequence, opened.tokens
        if runner.bank is not None and held:
            summaries = opened.summaries.get(repr(runner.bank.summary))
            if summaries is None:
                runner.bank.describe(sequence)
            else:
                runner.bank.restore(sequence, summaries)
    try:
        if held < len(tokens):
            runner.prefill(sequence, tokens[held:], plan.reading, total=len(tokens), stop=stop)
    except Exception:
        runner.store.drop(sequence)
        raise
    return Document(runner, sequence, tokens, plan, window, found=held)


class Document:
    """A document of `tokens` that has been read. It owns `sequence`, where its keys and values are.

    Replies fork it, so they cost their question and themselves, and leave it as it is. `shift` is how many tokens were
    evicted: the next token's place is that much further on. `found` is how many tokens were kept and not read anew.
    """

    def __init__(
        self,
        runner: Runner,
        sequence: int,
        tokens: Sequence[int],
        plan: ReadingPlan,
        window: int,
        *,
        shift: int = 0,
        found: int = 0,
    ) -> None:
        self.plan = plan
        self.found = found
        self.tokens = list(tokens)
        self._runner = runner
        self._sequence: int | None = sequence
        self._window = window
        self._shift = shift
        self._index: dict[int, object] = {}

    @property
    def length(self) -> int:
        """Tokens of the document that are kept."""
        return self._runner.store.length(self._open())

    @property
    def store(self) -> PageStore:
        """Where its keys and values are."""
        return self._runner.store

    @property
    def sequence(self) -> int:
        """The store's sequence, for keeping it on disk."""
        return self._open()

    def extend(self, tokens: Sequence[int], *, stop: Callable[[], bool] | None = None) -> None:
        """Read on: more of the document. Raises as `open_document` does; the chunks before an error stay."""
        self._fits(len(tokens))
        self._index.clear()
        before = self.length
        try:
            self._runner.prefill(self._open(), tokens, self.plan.reading, stop=stop, shift=self._shift)
        finally:
            self.tokens += tokens[: self.length - before]

    def answer(
        self,
        question: Sequence[int],
        *,
        max_tokens: int = 128,
        stop_tokens: Sequence[int] = (),
        pick: Pick = greedy,
        exact: bool = False,
    ) -> Reply:
        """Reply to a question that follows the document; see `answers`.

        With `exact` the plan only drafts: every token is what exact attention would have said, greedily, and the parts
        that were read are those that the drafts read (`speculative`).
        """
        if not exact:
            return self.answers([question], max_tokens=max_tokens, stop_tokens=stop_tokens, pick=pick)[0]
        self._fits(len(question) + max_tokens)
        began = time.perf_counter()
        runner, length = self._runner, self.length
        recorder = self._recorder(1)
        fork = runner.store.fork(self._open(), length)
        try:
            first = greedy(runner.prefill(fork, question, self.plan.reading, shift=self._shift)[-1])
            said = speculate(
                runner,
                fork,
                first,
                self.plan.answering,
                max_tokens=max_tokens,
                stop_tokens=stop_tokens,
                states=self._states(),
                recorder=recorder,
                shift=self._shift,
            )
        finally:
            runner.store.drop(fork)
        ended: StopReason = "end" if said.ended else "length"
        usage = Usage(1, length + len(question), len(said.tokens), length, time.perf_counter() - began)
        return Reply(said.tokens, recorder.reads(0, runner.store.shape.page, length), ended, usage)

    def answers(
        self,
        questions: Sequence[Sequence[int]],
        *,
        max_tokens: int = 128,
        stop_tokens: Sequence[int] = (),
        pick: Pick = greedy,
    ) -> list[Reply]:
        """Reply to several questions at once, which costs little more than one. A reply ends before a stop token.

        Raises `WindowExceeded` where document, question and reply do not fit the window together, and `PagesFull`.
        """
        if not questions or not all(questions):
            raise ValueError("a question has no tokens")
        self._fits(max(map(len, questions)) + max_tokens)
        if len(questions) > 1 and isinstance(self.plan.answering, LooksFirst):  # each reads pages of its own
            return [
                self.answers([one], max_tokens=max_tokens, stop_tokens=stop_tokens, pick=pick)[0] for one in questions
            ]
        began = time.perf_counter()
        runner, length = self._runner, self.length
        reading, answering = self._policies(questions[0])
        recorder = self._recorder(len(questions))
        turns: list[_Turn] = []
        try:
            for question in questions:
                turns.append(_Turn(runner.store.fork(self._open(), length), int(question[-1])))
                if question[:-1]:
                    runner.prefill(turns[-1].sequence, question[:-1], reading, shift=self._shift)
            # A question's last token is a step as the reply's are: what it reads is chosen, and noted.
            self._decode(turns, answering, self._states(), recorder, max_tokens, frozenset(stop_tokens), pick)
        finally:
            for turn in turns:
                runner.store.drop(turn.sequence)
        seconds = (time.perf_counter() - began) / len(turns)
        page = runner.store.shape.page
        return [
            Reply(
                tuple(turn.said),
                recorder.reads(row, page, length),
                turn.ended or "length",
                Usage(1, length + len(question), len(turn.said), length, seconds),
            )
            for row, (turn, question) in enumerate(zip(turns, questions, strict=True))
        ]

    def begin(self, question: Sequence[int], *, room: int = 1) -> Turn:
        """A reply of up to `room` tokens to one question, for whoever draws its tokens. The document stays as it is.

        Raises as `answers` does.
        """
        if not question:
            raise ValueError("a question has no tokens")
        self._fits(len(question) + room)
        runner, length = self._runner, self.length
        reading, answering = self._policies(question)
        fork = runner.store.fork(self._open(), length)
        try:
            if question[:-1]:
                runner.prefill(fork, question[:-1], reading, shift=self._shift)
            return Turn(
                runner,
                fork,
                question[-1],
                answering,
                states=self._states(),
                recorder=self._recorder(1),
                tokens=length,
                shift=self._shift,
            )
        except BaseException:
            runner.store.drop(fork)
            raise

    def evicted(self, eviction: Eviction, budget: int, *, last: int = 32) -> Document:
        """The document cut down to `budget` tokens a head, for a device that cannot keep it; this one stays as it is.

        What is cut cannot be had back, and a question may need it. The document's `last` queries are looked at. Raises
        `ValueError` where keys are stored without positions or a layer has a sliding window: what is left would not
        lie where these look for it.
        """
        config = self._runner.model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
        sliding = kinds or (config.model_type == "mistral" and config.sliding_window)
        if self.plan.positions is not None or sliding:
            raise ValueError(
                "tokens are evicted only where keys are stored with their positions and no layer has a sliding window"
            )
        runner, store = self._runner, self._runner.store
        length, budget = self.length, min(budget, self.length)
        keeper = _Keeper(eviction, budget)
        last = min(last, length)
        fork = store.fork(self._open(), length - last)
        try:
            runner.prefill(fork, self.tokens[-last:], keeper, keep=last, shift=self._shift)
        finally:
            store.drop(fork)
        kept = store.new()
        for layer in range(store.shape.layers):
            keys, values = everything(store, self._open(), layer)
            place = keeper.kept[layer][..., None].expand(-1, -1, keys.shape[2])
            store.append(kept, layer, keys.gather(1, place), values.gather(1, place))
        if runner.bank is not None:
            runner.bank.describe(kept)
        return Document(runner, kept, self.tokens, self.plan, self._window, shift=self._shift + length - budget)

    def keep(self, kept: Kept) -> Asset:
        """Write keys, values and summaries to files, for `open_document` to find. Raises as `AssetFolder.save` does."""
        bank, summaries = self._runner.bank, {}
        if bank is not None:
            summaries[repr(bank.summary)] = partial(bank.of, self._open(), tokens=self.length)
        return kept.folder.save(self._runner.store, self._open(), self.tokens, kept.fingerprint, summaries)

    def close(self) -> None:
        """Let go of the document. Safe to call twice."""
        if self._sequence is not None:
            self._runner.store.drop(self._sequence)
        self._sequence = None

    def _open(self) -> int:
        if self._sequence is None:
            raise ValueError("the document is closed; open it again")
        return self._sequence

    def _fits(self, more: int) -> None:
        if self.plan.positions is None and self.length + self._shift + more > self._window:
            raise WindowExceeded(
                f"the document has {self.length + self._shift} tokens, {more} more are wanted, and the model holds "
                f"{self._window}; ask for less, or read the document by the plan infllm"
            )

    def _recorder(self, rows: int) -> Recorder:
        store = self._runner.store
        return Recorder(store.shape.pages(self.length), rows, store.device)

    def _states(self) -> States:
        """What the answering policy starts with: its index of the document, made at the first question."""
        if not isinstance(self.plan.answering, IndexesDocuments):
            return {}
        if not self._index:
            store = self._runner.store
            for layer in range(store.shape.layers):
                keys, _ = everything(store, self._open(), layer)
                self._index[layer] = self.plan.answering.index(keys)
        return {layer: {"index": index} for layer, index in self._index.items()}

    def _policies(self, question: Sequence[int]) -> tuple[Policy, Policy]:
        """What a question reads and what its reply does; where a first look says, the question is read once for it."""
        first = self.plan.answering
        if not isinstance(first, LooksFirst):
            return self.plan.reading, first
        runner, length = self._runner, self.length
        fork, states = runner.store.fork(self._open(), length), States()
        try:
            runner.prefill(fork, question, first, states=states, shift=self._shift)
        finally:
            runner.store.drop(fork)
        chosen = first.after(states, length, runner.store.shape.page)
        return chosen, chosen

    def _decode(
        self,
        turns: list[_Turn],
        answering: Policy,
        states: States,
        recorder: Recorder,
        max_tokens: int,
        stop_tokens: frozenset[int],
        pick: Pick,
    ) -> None:
        sequences = [turn.sequence for turn in turns]
        device = self._runner.store.device
        for _ in range(max_tokens):
            new = torch.tensor([turn.last for turn in turns], device=device)
            logits = self._runner.step(sequences, new, answering, states=states, recorder=recorder, shift=self._shift)
            for turn, row in zip(turns, logits, strict=True):
                # A row that has ended runs on unheard: policies remember by row, so none may leave.
                turn.last = pick(row)
                if turn.ended is None and turn.last in stop_tokens:
                    turn.ended = "end"
                elif turn.ended is None:
                    turn.said.append(turn.last)
            if all(turn.ended for turn in turns):
                return


@dataclass(slots=True)
class _Turn:
    """A reply as it grows: its sequence, the token to be read next, and what was said."""

    sequence: int
    last: int
    said: list[int] = field(default_factory=list)
    ended: StopReason | None = None


@dataclass(slots=True)
class _Keeper(DenseDecode):
    """Reads everything, and asks an eviction in passing what it would keep of each layer."""

    eviction: Eviction
    budget: int
    kept: dict[int, torch.Tensor] = field(default_factory=dict)
    name: str = "keeper"

    def prefill(self, query: torch.Tensor, keys: torch.Tensor, chunk: Chunk) -> BlockMask | None:
        self.kept[chunk.layer] = self.eviction.keep(query[0], keys[0], self.budget, chunk.scale)
        return None
