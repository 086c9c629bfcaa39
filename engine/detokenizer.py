"""Turns token ids into text as they come, never showing part of a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BROKEN = "\ufffd"


class Detokenizer:
    """Incremental decoding of one reply.

    `context` is the prompt's ids: some tokenizers write a token differently at the start of a text, so the
    reply is decoded after the prompt's last few tokens. A token that ends inside a UTF-8 character waits for
    the rest of it.
    """

    _CONTEXT = 6
    _MOST_WAITING = 32  # invalid bytes could otherwise be held for ever

    def __init__(self, tokenizer: Any, context: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._known = list(context[-self._CONTEXT :])
        self._known_text = self._decode(self._known)
        self._waiting: list[int] = []

    def push(self, token: int) -> str:
        """Take one token id; returns the text that is now certain, which may be empty."""
        self._waiting.append(token)
        text = self._new_text()
        if text.endswith(BROKEN) and len(self._waiting) < self._MOST_WAITING:
            return ""
        # The last piece shown is enough context for the next.
        self._known = self._waiting if text else self._known + self._waiting
        self._known_text = self._decode(self._known)
        self._waiting = []
        return text

    def finish(self) -> str:
        """The text of tokens that still wait, without the character they left unfinished."""
        text = self._new_text() if self._waiting else ""
        self._waiting = []
        return text.rstrip(BROKEN)

    def _new_text(self) -> str:
        return self._decode(self._known + self._waiting)[len(self._known_text) :]

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)
