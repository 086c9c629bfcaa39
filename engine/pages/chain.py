"""The hash chain that names segments of a document's keys and values.

A token's keys and values depend on all tokens before it, so a segment's name is a hash of its tokens and of the name
before it. Two documents that begin alike share the names, and the files, of what they share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

SEGMENT_TOKENS = 1024
_DIGEST_BYTES = 20


def segment_keys(tokens: Sequence[int], fingerprint: str) -> tuple[str, ...]:
    """Names of the segments of `tokens`, 40 hexadecimal digits each; the last may be of a shorter segment."""
    ids = np.asarray(tokens, dtype="<i4")
    link = fingerprint.encode()
    keys: list[str] = []
    for start in range(0, len(ids), SEGMENT_TOKENS):
        part = ids[start : start + SEGMENT_TOKENS].tobytes()
        link = hashlib.blake2b(link + part, digest_size=_DIGEST_BYTES).digest()
        keys.append(link.hex())
    return tuple(keys)


def tokens_digest(tokens: Sequence[int]) -> str:
    """A name for a run of tokens, whatever model they are for: 32 hexadecimal digits."""
    return hashlib.blake2b(np.asarray(tokens, dtype="<i4").tobytes(), digest_size=16).hexdigest()
