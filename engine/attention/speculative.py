"""Self-speculative decoding: the sparse view drafts, exact attention decides, and the output is exact attention's.

TriForce (Sun et al., COLM 2024, arXiv:2404.11912) and MagicDec (Sachdeva et al., ICLR 2025, arXiv:2408.11049) draft
with the same weights on part of the KV: what a token costs there is its share of the KV, and checking several tokens
at once costs little more than one. It pays where reading the KV is most of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from longleaf.engine.attention.contract import Policy
from longleaf.engine.attention.policies.dense import Dense
from longleaf.engine.attention.reads import Recorder
from longleaf.engine.attention.runner import Runner, States


@dataclass(frozen=True, slots=True)
class Said:
    """Tokens that exact attention would have said greedily, and whether a stop token (not among them) ended them.

    `accepted` of `drafted` tokens were right; `checks` passes with all keys and values decided.
    """

    tokens: tuple[int, ...]
    ended: bool
    drafted: int
    accepted: int
    checks: int


def speculate(
    runner: Runner,
    sequence: int,
    first: int,
    draft: Policy,
    *,
    ahead: int = 4,
    max_tokens: int = 128,
    stop_tokens: Sequence[int] = (),
    states: States | None = None,
    recorder: Recorder | None = None,
    shift: int = 0,
) -> Said:
    """Say what follows `first`, itself the likeliest token after the sequence and not yet in it; it is said, too.

    `ahead` tokens are drafted at a time. The sequence then holds what was said but for the last token. Raises
    `PagesFull`; the sequence then holds a part of it.
    """
    stops, said = frozenset(stop_tokens), [first]
    drafted = accepted = checks = 0
    states = {} if states is None else states
    while len(said) < max_tokens and not stops.intersection(said):
        base, token = runner.store.length(sequence), said[-1]
        guess: list[int] = []
        for _ in range(min(ahead, max_tokens - len(said))):
            new = torch.tensor([guess[-1] if guess else token], device=runner.store.device)
            logits = runner.step([sequence], new, draft, states=states, recorder=recorder, shift=shift)
            guess.append(int(logits.argmax()))
        # What drafting wrote came from sparse attention in all layers but the first; it is written anew.
        runner.store.truncate(sequence, base)
        checked = runner.prefill(sequence, [token, *guess], Dense(), keep=len(guess) + 1, shift=shift).argmax(dim=-1)
        right = checked.tolist()
        good = next((n for n, token in enumerate(guess) if token != right[n]), len(guess))
        runner.store.truncate(sequence, base + good + 1)
        said += right[: good + 1]
        drafted += len(guess)
        accepted += good
        checks += 1
    end = next((n for n, token in enumerate(said) if token in stops), None)
    kept = said[:max_tokens] if end is None else said[: min(end, max_tokens)]
    return Said(tuple(kept), end is not None and end < max_tokens, drafted, accepted, checks)
