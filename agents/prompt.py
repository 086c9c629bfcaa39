"""Prompts are files in `prompts/`; this reads, fills and fingerprints them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from longleaf.engine.contract import Message

_PART = re.compile(r"^## (system|user|prefix)\n", re.MULTILINE)
_FENCE = re.compile(r"<(?=/?text\b)", re.IGNORECASE)
_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file: a system and a user part, and the words the reply is made to start with."""

    name: str
    system: str
    user: str
    prefix: str
    sha256: str

    def messages(self, **values: str) -> tuple[Message, ...]:
        """The prompt with its slots filled. Values are not filled again, so text of a document stays text.

        Prompts put text of documents between <text> and </text>. A value that holds such a mark has it broken, so that
        nothing in a document can end the text it stands in. Raises `KeyError` where a slot has no value.
        """
        return self._messages(self.user, values)

    def frame(self, question: str) -> str:
        """All of the prompt but the texts that fill it, the question wherever it stands: to count tokens of."""
        return "\n".join((self.system, self.user.replace("{{question}}", question), self.prefix))

    def opening(self, before: str, **values: str) -> tuple[Message, ...]:
        """The beginning of the prompt, up to the slot `before`: the same for whatever will fill that."""
        return self._messages(self.user.partition(f"{{{{{before}}}}}")[0].rstrip(), values)

    def place(self, slot: str) -> int:
        """Where the first slot's value begins in the user part. Raises `ValueError` where another slot comes first."""
        first = _SLOT.search(self.user)
        if first is None or first.group(1) != slot:
            raise ValueError(f"the prompt {self.name} does not begin with the slot {slot}")
        return first.start()

    def _messages(self, user: str, values: Mapping[str, str]) -> tuple[Message, ...]:
        parts = [Message("system", self.system)] if self.system else []
        filled = _SLOT.sub(lambda match: _FENCE.sub("< ", values[match.group(1)]), user)
        return (*parts, Message("user", filled))


def broken(text: str) -> list[int]:
    """Where a prompt breaks marks in a text: each gets a space behind its first character, at these places."""
    return [match.end() for match in _FENCE.finditer(text)]


def load(name: str) -> Prompt:
    """The prompt `prompts/NAME.md`."""
    source = (resources.files("longleaf.agents.prompts") / f"{name}.md").read_text(encoding="utf-8")
    pieces = _PART.split(source)
    parts = {key: value.strip() for key, value in zip(pieces[1::2], pieces[2::2], strict=True)}
    digest = hashlib.sha256(source.encode()).hexdigest()
    return Prompt(name, parts.get("system", ""), parts["user"], parts.get("prefix", ""), digest)


def hashes(names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each prompt file, to be stored with a run."""
    return {name: load(name).sha256 for name in names}
