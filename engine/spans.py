"""Chooses a reply held to spans of a text: not the likeliest, but the one nearest to all that are likely.

A small model spreads its probability over spans that overlap ("the White House", "White House", "in the White House").
Word by word, whichever begins best wins. Here beam search finds the likeliest spans, and the reply is that with the
least Bayes risk: the greatest word F1 to expect if one of them, drawn by its probability, were right (Kumar and Byrne
2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation").

The beams are a tree of tokens in the cache of one request. Each step computes its leaves as one sequence, under a mask
by which a token sees the prompt and its own ancestors (Miao et al. 2023, "SpecInfer", arXiv:2305.09781), so that
nothing is copied; a 135M model on one CPU core takes about twice as long for eight tokens as for one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from longleaf.engine.grammar import Matcher
from longleaf.engine.growing_cache import cache_name

POWER = 0.5
"""To which probabilities are raised before spans are weighed. At 1 the likeliest span of a small model, which is surer
than it is right, mostly decides alone; below 1 those that overlap count together."""

LEAST = 0.05
"""Replies less likely than this share of the likeliest are neither sought nor weighed. On 46 questions that halved the
steps and changed no reply."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A whole reply: its text, the likeliest of its tokenizations, and the logarithm of the probability of them all."""

    text: str
    tokens: tuple[int, ...]
    log_probability: float


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A reply that is not whole. `slots` are the places of its tokens in the cache."""

    tokens: tuple[int, ...]
    log_probability: float
    matcher: Matcher
    slots: tuple[int, ...]


class SpanTree:
    """Beam search for the `width` likeliest replies of at most `limit` tokens after a prompt.

    `cache` holds the prompt and from then on the tree; `ruled_out` is a token with which no reply begins; `text_of`
    turns tokens into the text by which replies are told apart. Probabilities are those among what the grammar allows.
    The caller gives `extend` the logits after the prompt, then those of a forward pass of `inputs`, and so on until the
    tree is `finished`.
    """

    def __init__(
        self,
        matcher: Matcher,
        cache: Any,
        *,
        width: int,
        limit: int,
        ends: Collection[int],
        text_of: Callable[[Sequence[int]], str],
        ruled_out: int | None = None,
    ) -> None:
        self.finished = False
        self._cache = cache
        self._prompt = int(cache.get_seq_length())
        self._leaves = [_Leaf((), 0.0, matcher, ())]
        self._whole: dict[str, dict[tuple[int, ...], float]] = {}
        self._width = width
        self._limit = limit
        self._ends = frozenset(ends)
        self._text_of = text_of
        self._ruled_out = ruled_out

    def extend(self, logits: torch.Tensor) -> None:
        """Add a level: the likeliest continuations of the leaves, by logits `[leaves, vocabulary]`, which change.

        Raises `EngineFailed` where the grammar grew too complex to follow.
        """
        slot = int(self._cache.get_seq_length())
        leaves: list[_Leaf] = []
        for log_probability, parent, token in self._continuations(logits.float()):
            matcher = parent.matcher.copy()
            tokens = (*parent.tokens, token)
            if matcher.accept(token) or len(tokens) == self._limit:
                self._whole.setdefault(self._text(tokens), {})[tokens] = log_probability
            elif len(leaves) < self._width:
                leaves.append(_Leaf(tokens, log_probability, matcher, (*parent.slots, slot + len(leaves))))
        found = self.candidates()
        least = _least(found)
        self._leaves = leaves = [leaf for leaf in leaves if leaf.log_probability >= least]
        self.finished = not leaves or (
            len(found) == self._width and found[-1].log_probability > leaves[0].log_probability
        )

    def inputs(self, model: Any) -> dict[str, Any]:
        """What the model takes to compute the leaves."""
        held, leaves = int(self._cache.get_seq_length()), self._leaves
        hidden = torch.ones(len(leaves), held + len(leaves), dtype=torch.bool)
        hidden[:, : self._prompt] = False
        for row, leaf in enumerate(leaves):
            hidden[row, list(leaf.slots)] = False
        # Numbers to add, not booleans: only they mean the same to every implementation of attention.
        mask = torch.zeros(hidden.shape, dtype=model.dtype).masked_fill_(hidden, torch.finfo(model.dtype).min)
        place = self._prompt + len(leaves[0].tokens) - 1
        return {
            "input_ids": torch.tensor([[leaf.tokens[-1] for leaf in leaves]], device=model.device),
            "position_ids": torch.full((1, len(leaves)), place, device=model.device),
            "attention_mask": mask[None, None].to(model.device),
            cache_name(model): self._cache,
        }

    def candidates(self) -> list[Candidate]:
        """The likeliest whole replies so far, at most `width`, the likeliest first; none below `LEAST`."""
        found = [
            Candidate(text, max(ways, key=ways.__getitem__), _log_sum(ways.values()))
            for text, ways in self._whole.items()
        ]
        found.sort(key=lambda candidate: -candidate.log_probability)
        least = _least(found)
        return [candidate for candidate in found[: self._width] if candidate.log_probability >= least]

    def _continuations(self, logits: torch.Tensor) -> list[tuple[float, _Leaf, int]]:
        """Enough of the likeliest next tokens that `width` of them go on, unless the grammar ends many replies."""
        for leaf, row in zip(self._leaves, logits, strict=True):
            leaf.matcher.mask(row)
        if self._ruled_out is not None:
            logits[:, self._ruled_out] = float("-inf")
            self._ruled_out = None
        before = torch.tensor([leaf.log_probability for leaf in self._leaves], device=logits.device)
        totals = (torch.log_softmax(logits, dim=-1) + before[:, None]).flatten()
        most = 2 * self._width + len(self._leaves) * len(self._ends)
        values, places = totals.topk(min(most, len(totals)))
        size = logits.shape[-1]
        return [
            (value, self._leaves[place // size], place % size)
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
            if value > float("-inf")
        ]

    def _text(self, tokens: Sequence[int]) -> str:
        return self._text_of(tokens[:-1] if tokens[-1] in self._ends else tokens)


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate whose expected word F1 is the greatest; of several the likeliest."""
    bags = [Counter(re.findall(r"\w+", candidate.text.casefold())) for candidate in candidates]
    likeliest = max(candidate.log_probability for candidate in candidates)
    weights = [math.exp(POWER * (candidate.log_probability - likeliest)) for candidate in candidates]

    def worth(place: int) -> tuple[float, float]:
        expected = math.fsum(weight * word_f1(bags[place], bag) for weight, bag in zip(weights, bags, strict=True))
        return round(expected / math.fsum(weights), 9), candidates[place].log_probability

    return candidates[max(range(len(candidates)), key=worth)]


def word_f1(left: Counter[str], right: Counter[str]) -> float:
    """F1 of two bags of words; 1 where both are empty."""
    if not left and not right:
        return 1.0
    return 2 * (left & right).total() / (left.total() + right.total())


def takes_trees(model: Any) -> bool:
    """Whether a model's attention takes a mask for each token, as a tree needs.

    Layers with a sliding window would take the same mask as the others, and see too much.
    """
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    full = kinds == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    # ALiBi (Press et al. 2022) makes its distances of the mask.
    return full and not getattr(config, "alibi", False) and config._attn_implementation in ("eager", "sdpa")


def _least(found: Sequence[Candidate]) -> float:
    return found[0].log_probability + math.log(LEAST) if found else float("-inf")


def _log_sum(values: Collection[float]) -> float:
    most = max(values)
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
