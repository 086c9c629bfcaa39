"""Sentence embeddings: text to unit vectors, offline, on the CPU or a GPU."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
OnProgress = Callable[[int, int], None]
"""Called with (texts embedded so far, texts in all)."""


class Embedder(Protocol):
    """Texts to vectors of unit length. Vectors of two embedders may meet only where fingerprints are equal."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        ...

    def embed(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> Vectors:
        """Vectors, float32 [len(texts), dimensions]."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model folder, run by plain `transformers` with the pooling the folder asks for.

    Texts beyond the model's window are cut by its tokenizer; chunk plans stay below it.
    """

    def __init__(self, folder: Path, *, name: str, device: str = "auto", batch_tokens: int = 4096) -> None:
        self.folder = folder
        self.name = name
        self._device = device
        self._batch_tokens = batch_tokens

    @cached_property
    def fingerprint(self) -> str:
        """Name and content hash of weights and tokenizer, so that a swapped folder never passes for the old one."""
        digest = hashlib.sha256()
        for file in [*sorted(self.folder.glob("*.safetensors")), self.folder / "tokenizer.json"]:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return f"{self.name}:{digest.hexdigest()[:16]}:{self._pooling}"

    @cached_property
    def dimensions(self) -> int:
        return int(json.loads((self.folder / "config.json").read_text())["hidden_size"])

    def count(self, texts: Sequence[str]) -> list[int]:
        self._tokenizer.no_truncation()
        return [len(encoding) for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def embed(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> Vectors:
        import torch

        self._tokenizer.enable_truncation(self._window)
        encodings = self._tokenizer.encode_batch(list(texts))
        # Batches of like lengths: padding costs as much as text.
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index]))
        result = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        done = 0
        with torch.inference_mode():
            for batch in self._batches(order, encodings):
                result[batch] = self._forward([encodings[index].ids for index in batch])
                done += len(batch)
                if on_progress:
                    on_progress(done, len(texts))
        return result

    def _batches(self, order: list[int], encodings: Sequence[Any]) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in order:
            if batch and (len(batch) + 1) * len(encodings[index]) > self._batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _forward(self, rows: list[list[int]]) -> Vectors:
        import torch

        width = max(len(row) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self._pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = mask.unsqueeze(-1).float()
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        vectors: Vectors = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors

    @cached_property
    def _pooling(self) -> str:
        file = self.folder / "1_Pooling" / "config.json"
        config = json.loads(file.read_text()) if file.exists() else {}
        return "cls" if config.get("pooling_mode_cls_token") else "mean"

    @cached_property
    def _window(self) -> int:
        file = self.folder / "sentence_bert_config.json"
        stated = json.loads(file.read_text()).get("max_seq_length") if file.exists() else None
        positions = json.loads((self.folder / "config.json").read_text()).get("max_position_embeddings", 512)
        return int(stated or positions)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModel

        from longleaf.engine.loading import quiet_transformers
        from longleaf.engine.precision import faster_dtype

        device = self._device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet_transformers():
            dtype = faster_dtype(device, self.dimensions, tokens=(1024,))
            model = AutoModel.from_pretrained(str(self.folder), dtype=dtype)
        return model.to(device).eval()


class HashedWords:
    """Feature hashing of words: no model, no meaning, always available. For tests and for machines without one."""

    dimensions = 256
    fingerprint = "hashed-words:1"

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]

    def embed(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> Vectors:
        result = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                column = int.from_bytes(digest[:4]) % self.dimensions
                result[row, column] += 1.0 if digest[4] & 1 else -1.0
            result[row] /= max(float(np.linalg.norm(result[row])), 1e-9)
            if on_progress:
                on_progress(row + 1, len(texts))
        return result
