"""`Fingerprint`: what must be the same for kept keys and values to be of use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from longleaf.engine.pages.quantise import Format


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What made keys and values: digests of a model's weights and its tokenizer, the numbers' dtype, how positions are
    applied (the rotary embedding and its scaling), the prefill policy with its settings, tokens of a page, and the
    format pages are stored in."""

    model: str
    tokenizer: str
    dtype: str
    positions: str
    policy: str
    page: int
    stored: Format = "exact"

    @property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def difference(self, other: Fingerprint) -> str:
        """What differs, for people: `page is 64, not 32; policy is ...`."""
        mine, theirs = asdict(self), asdict(other)
        return "; ".join(f"{name} is {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name])
