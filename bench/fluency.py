"""Whether a model still writes as its base does: perplexity on prose and on the base's replies to general prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from items import BOOKS, book

from longleaf.engine import adapter as adapters
from longleaf.engine.contract import Done, Engine, Message, Request, Sampling
from longleaf.engine.loading import load_model, load_tokenizer
from longleaf.engine.prompt import PromptForm

PROMPTS = Path(__file__).with_name("chat_prompts.txt")
REPLY_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens of which those from `start` on are to be foretold."""

    ids: tuple[int, ...]
    start: int


def prompts(count: int) -> list[str]:
    """The first general prompts, one a line in `chat_prompts.txt`."""
    return PROMPTS.read_text(encoding="utf-8").splitlines()[:count]


def replies(engine: Engine, asked: Sequence[str]) -> list[str]:
    """A model's greedy replies to prompts without a system part."""
    requests = [
        Request(str(place), (Message("user", text),), Sampling(max_tokens=REPLY_TOKENS))
        for place, text in enumerate(asked)
    ]
    said = {event.request_id: event.text for event in engine.generate(requests) if isinstance(event, Done)}
    return [said.get(str(place), "") for place in range(len(asked))]


def prose(data: Path, tokenizer: Any, passages: int, tokens: int) -> list[Passage]:
    """Excerpts of a novel, spread over it."""
    text = book(data, BOOKS[0])
    if text is None:
        raise SystemExit(f"no {BOOKS[0]} in {data}")
    found = []
    for place in range(passages):
        start = (2 * place + 1) * len(text) // (2 * passages)
        ids = tokenizer(text[start : start + 8 * tokens], add_special_tokens=False)["input_ids"][:tokens]
        found.append(Passage(tuple(ids), 1))
    return found


def told(tokenizer: Any, asked: Sequence[str], said: Sequence[str]) -> list[Passage]:
    """Replies behind their prompts, as the model writes them."""
    form = PromptForm(tokenizer)
    found = []
    for question, reply in zip(asked, said, strict=True):
        before = form.encode((Message("user", question),), "").ids
        ids = tokenizer(reply, add_special_tokens=False)["input_ids"]
        if ids:
            found.append(Passage((*before, *ids), len(before)))
    return found


class Reader:
    """A model loaded to be measured, not to write."""

    def __init__(self, folder: Path, adapter: Path | None, dtype: str, device: str) -> None:
        import torch

        self.tokenizer = load_tokenizer(folder)
        self._model = load_model(folder, getattr(torch, dtype), device)
        if adapter is not None:
            adapters.merge(adapters.read(adapter), self._model)

    def perplexity(self, passages: Sequence[Passage]) -> float:
        """exp of the mean negative log-likelihood a token, in nats."""
        import torch

        total, count = 0.0, 0
        with torch.inference_mode():
            for passage in passages:
                ids = torch.tensor([passage.ids], device=self._model.device)
                logits = self._model(input_ids=ids, use_cache=False).logits[0, passage.start - 1 : -1].float()
                wanted = ids[0, passage.start :]
                total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
                count += len(wanted)
        return math.exp(total / count) if count else float("nan")
