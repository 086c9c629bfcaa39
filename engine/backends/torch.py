"""Runs a model of the user's own with PyTorch, on a CPU or a CUDA GPU.

Prompts are computed one by one, in chunks and without padding, reusing the start they share with an earlier
prompt; replies are then decoded together. The model's code is transformers'; the loop is ours, so that tokens
stream, stop strings end a reply at once, and closing the iterator stops the work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from longleaf.engine import adapter as adapters
from longleaf.engine.attention.contract import Attend
from longleaf.engine.attention.interface import known_to_pages
from longleaf.engine.attention_scores import AttentionScorer, all_heads
from longleaf.engine.backends.batch import SPARE_TOKENS, Batch
from longleaf.engine.backends.device_memory import (
    bytes_per_token,
    empty_device_cache,
    memory_for_batches,
    out_of_memory,
)
from longleaf.engine.backends.documents import OpenDocuments, Parts
from longleaf.engine.contract import (
    Event,
    Failed,
    Head,
    Keeping,
    Message,
    ModelCard,
    OpenDocument,
    Request,
    Scores,
)
from longleaf.engine.errors import EngineFailed, LongleafError, NotCalibrated, WindowExceeded
from longleaf.engine.grammar import Grammars, can_constrain
from longleaf.engine.growing_cache import cache_from, cache_name, layers_of, new_cache
from longleaf.engine.heads import fingerprint, known_heads
from longleaf.engine.loading import load_model, load_tokenizer
from longleaf.engine.precision import settled_dtype
from longleaf.engine.prefixes import PrefixStore
from longleaf.engine.prompt import PromptForm
from longleaf.engine.row import Row
from longleaf.engine.spans import SpanTree, choose, takes_trees

DtypeName = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds memory, all in tokens but `rows`.

    `chunk` tokens of a prompt are computed at once, and its start is reused in steps of as many; a batch
    holds at most `rows` requests and `batch_tokens` tokens, padding included, and documents kept open take as much
    again; `kept_tokens` tokens of earlier prompts are kept for reuse.
    """

    chunk: int
    rows: int
    batch_tokens: int
    kept_tokens: int


class TorchEngine:
    """A transformers causal language model behind the `Engine` contract. Safe to share between threads."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        card: ModelCard,
        limits: Limits,
        heads: Sequence[Head] | None = None,
        attend: Attend | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._card = card
        self._limits = limits
        self._form = PromptForm(tokenizer)
        self._ends = _turn_ends(model, tokenizer)
        self._grammars = Grammars(tokenizer, self._ends)
        self._prefixes = PrefixStore(limits.kept_tokens, limits.chunk)
        self._takes_trees = takes_trees(model)
        self._layers = int(model.config.get_text_config(decoder=True).num_hidden_layers)
        self._lock = threading.Lock()
        self._scorer = self.scorer(heads) if heads else None
        self._documents: OpenDocuments | None = self._reading(heads, attend)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        name: str | None = None,
        adapter: Path | None = None,
        dtype: DtypeName = "auto",
        device: str = "auto",
        window: int | None = None,
        threads: int | None = None,
        chunk: int | None = None,
        rows: int | None = None,
        batch_tokens: int | None = None,
        kept_tokens: int | None = None,
        attend: Attend | None = None,
    ) -> TorchEngine:
        """Load a safetensors folder or a GGUF file, and merge the LoRA adapter of the folder `adapter` into it.

        `dtype` "auto" is the faster of float32 and bfloat16 here, as measured once; `device` is "auto", "cpu",
        "cuda" or "cuda:1"; `window` (tokens) may shrink the model's own; `threads` sets PyTorch's CPU threads
        for the whole process; `attend` executes attention over documents that are kept, None finds the best for the
        device (`attention.executor`). The rest is as in `Limits`; None chooses from the memory there is.

        Raises `ModelNotFound` where `path` holds no model or `adapter` no adapter, `EngineFailed` where they cannot
        be run or do not fit each other.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        place = _device(device)
        config = _config(path)
        number = _dtype(dtype, place, path, config)
        tokenizer = load_tokenizer(path)
        lora = adapters.read(adapter) if adapter is not None else None  # before minutes of loading a base
        model = load_model(path, number, place)
        if lora is not None:
            adapters.merge(lora, model)
        token_bytes = bytes_per_token(config, number)
        budget = batch_tokens or memory_for_batches(place) // token_bytes
        limits = Limits(
            chunk=chunk or (4096 if place.startswith("cuda") else 512),
            rows=rows or (64 if place.startswith("cuda") else 16),
            batch_tokens=budget,
            kept_tokens=min(8192, budget // 2) if kept_tokens is None else kept_tokens,
        )
        name = name or (f"{path.stem}+{adapter.name}" if adapter is not None else path.stem)
        heads = _heads(path, adapter, name, config)
        card = ModelCard(
            name=name,
            backend="torch",
            window=_window(window, config, name),
            tokenizer=PromptForm(tokenizer).fingerprint(),
            dtype=str(number).removeprefix("torch."),
            capabilities=frozenset(
                {"prefix", "seed", "prefix_cache", *_more_capabilities(tokenizer, heads, lora, known_to_pages(config))}
            ),
            weights=fingerprint(path, adapter),
        )
        return cls(model, tokenizer, card, limits, heads, attend)

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self._card

    def count(self, text: str) -> int:
        """Tokens of `text` on its own, by the model's tokenizer."""
        return self._form.count(text)

    def close(self) -> None:
        """Free the model's memory. A later `generate` fails every request with `EngineFailed`."""
        with self._lock:
            self._model = None
            self._scorer = None
            if self._documents is not None:
                self._documents.clear()
            self._documents = None
            self._prefixes.clear()
        empty_device_cache()

    def generate(self, requests: Sequence[Request]) -> Iterator[Event]:
        """Answer a batch, streaming.

        Exactly one `Done` or `Failed` comes per request; closing the iterator stops.
        """
        waiting: deque[Row] = deque()
        for request in requests:
            try:
                row = self._admit(request)
            except LongleafError as error:
                yield Failed(request.id, error)
                continue
            yield from row.start()
            if not row.finished:
                waiting.append(row)
        yield from self._serve(waiting)

    def score_context(self, question: str, context: Sequence[str], *, stop: Callable[[], bool] | None = None) -> Scores:
        """How much `question` looks at each unit of `context`; see `ScoresContext`.

        Which heads to ask comes from `longleaf models calibrate`, or with a known model from the catalog. There
        is no guess for other models: most heads of a model find nothing, and nothing would show that they don't.
        """
        self._running_model()
        if self._scorer is None:
            raise NotCalibrated(
                f"it is not known which attention heads of {self._card.name} find answers; "
                f"run `longleaf models calibrate {self._card.name}` once"
            )
        try:
            return self._scorer.score(question, context, stop)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            full = f"{len(context)} units do not fit the GPU's memory beside {self._card.name}; score fewer at once"
        self._make_room()
        raise EngineFailed(full)

    def open_document(
        self,
        messages: Sequence[Message],
        *,
        plan: str = "dense",
        budget: int | None = None,
        room: int = 256,
        keeping: Keeping | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> OpenDocument:
        """Read the beginning of a prompt and keep it open; see `ReadsDocuments`."""
        self._running_model()
        documents = self._documents
        if documents is None or "reads_documents" not in self._card.capabilities:
            raise EngineFailed(f"the attention of {self._card.name} does not go through pages, so it keeps no document")
        try:
            return documents.open(messages, plan, budget, room, keeping, stop)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        self._make_room()
        raise EngineFailed(f"the document does not fit the GPU's memory beside {self._card.name}; use device='cpu'")

    def _reading(self, heads: Sequence[Head] | None, attend: Attend | None) -> OpenDocuments:
        config = self._model.config.get_text_config(decoder=True)
        parts = Parts(
            model=self._model,
            tokenizer=self._tokenizer,
            form=self._form,
            card=self._card,
            ends=self._ends,
            grammars=self._grammars,
            heads=tuple(heads) if heads else None,
            lock=self._lock,
            chunk=self._limits.chunk,
            room=self._limits.batch_tokens * bytes_per_token(config, self._model.dtype),
            attend=attend,
        )
        return OpenDocuments(parts)

    def scorer(self, heads: Sequence[Head] | None = None) -> AttentionScorer:
        """A scorer by other heads than the engine's; by every head of the model where None."""
        model = self._running_model()
        limits = self._limits
        return AttentionScorer(
            model,
            self._form,
            self._card,
            heads or all_heads(model),
            self._lock,
            chunk=limits.chunk,
            kept_tokens=limits.kept_tokens,
        )

    def _serve(self, waiting: deque[Row]) -> Iterator[Event]:
        most_rows = self._limits.rows
        while waiting:
            group = self._take(waiting, most_rows)
            full = False
            try:
                yield from self._answer(group)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                full = True
            # Out here, so that the failed step's tensors, held by the exception, are gone.
            if full:
                self._make_room()
                unfinished = [row for row in group if not row.finished]
                if len(group) == 1:
                    yield Failed(unfinished[0].request.id, self._out_of_memory(unfinished[0]))
                    continue
                most_rows = len(group) // 2
                waiting.extendleft(reversed(unfinished))
                logging.getLogger(__name__).warning(
                    "out of GPU memory with %d requests at once; going on with %d", len(group), most_rows
                )

    def _admit(self, request: Request) -> Row:
        if self._model is None:
            raise EngineFailed(f"the engine of {self._card.name} is closed; open it again")
        prompt = self._form.encode(request.messages, request.prefix)
        window = self._card.window
        if len(prompt.ids) + 1 > window:
            raise WindowExceeded(
                f"the prompt of request {request.id} has {len(prompt.ids)} tokens and {self._card.name} "
                f"holds {window}, prompt and reply together. Use a reader that reads in parts "
                "(`--reader retrieve`), a shorter text, or a model with a larger window (`longleaf models list`)."
            )
        room = window - len(prompt.ids)
        grammar = request.sampling.grammar
        matcher = self._grammars.matcher(grammar) if grammar is not None else None
        return Row(request, prompt, room=room, tokenizer=self._tokenizer, ends=self._ends, matcher=matcher)

    def _take(self, waiting: deque[Row], most_rows: int) -> list[Row]:
        """The next requests that fit the token budget together; always one."""
        group = [waiting.popleft()]
        longest = group[0].most
        while waiting and len(group) < most_rows:
            longest = max(longest, waiting[0].most)
            if longest * (len(group) + 1) > self._limits.batch_tokens:
                break
            group.append(waiting.popleft())
        return group

    def _answer(self, group: Sequence[Row]) -> Iterator[Event]:
        rows: list[Row] = []
        caches: list[Any] = []
        for row in group:
            token, logits, cache = self._prefill(row)
            tree = row.tree(token, cache) if self._takes_trees else None
            yield from row.accept(token) if tree is None else self._weigh(row, tree, logits)
            if not row.finished:
                rows.append(row)
                caches.append(cache)
            del logits, cache, tree
        if not rows:
            return
        batch = Batch(rows, caches)
        caches.clear()
        while batch.rows:
            for row, token in zip(batch.rows, self._step(batch), strict=True):
                yield from row.accept(token)
            batch.drop_finished()

    def _weigh(self, row: Row, tree: SpanTree, logits: torch.Tensor) -> Iterator[Event]:
        """Answer with the best of the likeliest replies, which ends the row."""
        try:
            while not tree.finished:
                logits = self._extend(row, tree, logits)
        except EngineFailed as error:
            yield from row.fail(error)
            return
        for token in choose(tree.candidates()).tokens:
            yield from row.accept(token)
            if row.finished:  # by a stop string
                return

    @torch.inference_mode()
    def _extend(self, row: Row, tree: SpanTree, logits: torch.Tensor) -> torch.Tensor:
        """Add a level to a tree by the logits of its leaves, and compute those of the next."""
        with self._lock:
            start = time.perf_counter()
            model = self._running_model()
            tree.extend(logits)
            if not tree.finished:
                logits = model(**tree.inputs(model), use_cache=True).logits[0]
            row.seconds += time.perf_counter() - start
            return logits

    @torch.inference_mode()
    def _prefill(self, row: Row) -> tuple[int, torch.Tensor, Any]:
        """Compute a prompt; returns the first token of the reply, its logits `[1, vocabulary]` and the row's cache."""
        with self._lock:
            start = time.perf_counter()
            model = self._running_model()
            ids = row.ids
            reserve = min(row.most, len(ids) + SPARE_TOKENS)
            prefix = self._prefixes.find(ids)
            if prefix is None:
                cache, done = new_cache(self._layers, reserve), 0
            else:
                cache, done = cache_from(prefix.layers, prefix.length, reserve), prefix.length
            tokens = torch.tensor([ids], device=model.device)
            for begin in range(done, len(ids), self._limits.chunk):
                chunk = tokens[:, begin : begin + self._limits.chunk]
                logits = model(input_ids=chunk, use_cache=True, logits_to_keep=1, **{cache_name(model): cache}).logits
            self._prefixes.add(ids, layers_of(cache))
            row.constrain(logits[0, -1])
            token = row.sampler.draw(logits[0, -1])
            row.cached_tokens += done
            row.seconds += time.perf_counter() - start
            return token, logits[:, -1], cache

    @torch.inference_mode()
    def _step(self, batch: Batch) -> list[int]:
        """Compute one token for every row of a batch."""
        with self._lock:
            start = time.perf_counter()
            model = self._running_model()
            logits = model(**batch.inputs(model), use_cache=True, logits_to_keep=1).logits[:, -1]
            for index, row in enumerate(batch.rows):
                row.constrain(logits[index])
            likeliest = logits.argmax(dim=-1).tolist()
            tokens = [
                likeliest[index] if row.sampler.greedy else row.sampler.draw(logits[index])
                for index, row in enumerate(batch.rows)
            ]
            share = (time.perf_counter() - start) / len(batch.rows)
            for row in batch.rows:
                row.seconds += share
            return tokens

    def _running_model(self) -> Any:
        if self._model is None:
            raise EngineFailed(f"the engine of {self._card.name} was closed while it was answering")
        return self._model

    def _make_room(self) -> None:
        with self._lock:
            self._prefixes.clear()
        empty_device_cache()

    def _out_of_memory(self, row: Row) -> EngineFailed:
        return EngineFailed(
            f"request {row.request.id} with {row.length} tokens does not fit the GPU's memory beside "
            f"{self._card.name}; use a smaller window or model, or device='cpu'"
        )


def _config(path: Path) -> Any:
    from longleaf.engine.loading import load_config

    config = load_config(path).get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    if strange := kinds - {"full_attention", "sliding_attention"}:
        raise EngineFailed(
            f"{path} has layers of kind {', '.join(sorted(strange))}, whose state Longleaf cannot keep. "
            "Choose a model with attention layers only, or serve this one and give its address (--base-url)."
        )
    return config


def _device(device: str) -> str:
    if device != "auto":
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineFailed(f"device {device} was asked for and PyTorch sees no CUDA GPU; use device='cpu'")
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(dtype: DtypeName, device: str, path: Path, config: Any) -> torch.dtype:
    if dtype == "auto":
        return settled_dtype(path, device, int(config.hidden_size))
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def _window(asked: int | None, config: Any, name: str) -> int:
    own = int(config.max_position_embeddings)
    if asked is not None and asked > own:
        logging.getLogger(__name__).warning(
            "a window of %d tokens was asked for; %s was trained for %d, which is used", asked, name, own
        )
    return own if asked is None else min(asked, own)


def _turn_ends(model: Any, tokenizer: Any) -> set[int]:
    ends: set[int] = set()
    for source in (model.generation_config, model.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        ends |= set(value) if isinstance(value, (list, tuple)) else {value} if value is not None else set()
    return ends


def _heads(path: Path, adapter: Path | None, name: str, config: Any) -> tuple[Head, ...] | None:
    """Known heads of the model; none where they cannot be its own, whatever its name."""
    heads = known_heads(path, name, adapter)
    layers, width = int(config.num_hidden_layers), int(config.num_attention_heads)
    return heads if heads and all(layer < layers and head < width for layer, head in heads) else None


def _more_capabilities(
    tokenizer: Any, heads: Sequence[Head] | None, lora: adapters.Adapter | None, paged: bool
) -> set[str]:
    trained = lora is not None and lora.abstains
    found = {
        "grammar": can_constrain(tokenizer),
        "scores_context": bool(heads),
        "abstains": trained,
        "reads_documents": paged,
    }
    return {name for name, has in found.items() if has}
