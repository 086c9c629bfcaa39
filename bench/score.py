"""Scores of a reply against gold answers: SQuAD's exact match and F1, and whether it holds the answer at all."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation + "“”‘’–—")
_YES_NO = ("yes", "no")


def normalised(text: str) -> str:
    """Lower case, without punctuation and articles, words apart by one space (SQuAD, Rajpurkar et al., 2016)."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact(text: str, golds: Sequence[str]) -> bool:
    """Whether `text` is one of the gold answers."""
    return any(normalised(text) == normalised(gold) for gold in golds)


def f1(text: str, golds: Sequence[str]) -> float:
    """Best overlap of words with a gold answer, 0 to 1."""
    return max((_overlap(normalised(text).split(), normalised(gold).split()) for gold in golds), default=0.0)


def _overlap(said: Sequence[str], gold: Sequence[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    shared = sum((Counter(said) & Counter(gold)).values())
    return 2 * shared / (len(said) + len(gold))


def holds(text: str, golds: Sequence[str]) -> bool:
    """Whether `text` holds a gold answer as whole words. For "yes" and "no": whether it begins so."""
    words = f" {normalised(text)} "
    for gold in map(normalised, golds):
        if words.startswith(f" {gold} ") if gold in _YES_NO else bool(gold) and f" {gold} " in words:
            return True
    return False


def support(quotes: Iterable[tuple[int, int]], evidence: Sequence[tuple[int, int]]) -> float:
    """Share of evidence spans [start, end) that a quoted span overlaps; 1 where there is no evidence to find."""
    shown = list(quotes)
    met = sum(any(start < stop and begin < end for begin, stop in shown) for start, end in evidence)
    return met / len(evidence) if evidence else 1.0
