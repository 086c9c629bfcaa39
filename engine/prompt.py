"""Turns messages into token ids.

The form of a turn comes from the tokenizer's chat template, or from a plain one where it has none. What a
message says never becomes a control token: a document that contains `<|im_end|>` is read as those characters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longleaf.engine.contract import Message
from longleaf.engine.errors import EngineFailed


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids of a prompt, and the strings that mean the model has begun the next turn by itself."""

    ids: list[int]
    stops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a rendered prompt: frame text may hold control tokens, content may not."""

    text: str
    content: bool


class PromptForm:
    """How one tokenizer's model wants its prompts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = {token.content: int(id_) for id_, token in tokenizer.added_tokens_decoder.items()}
        # Runs of spaces are added tokens in some vocabularies; they control nothing.
        self._control = {text: id_ for text, id_ in added.items() if text.strip()}
        self._control_pattern = _any_of(self._control)

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer brings a chat template."""
        return bool(self._tokenizer.chat_template)

    def encode(self, messages: Sequence[Message], prefix: str = "") -> Prompt:
        """Ids of the prompt up to where the reply starts, `prefix` included.

        Raises `EngineFailed` where the chat template refuses the order of turns.
        """
        start: list[int] = []
        stops: tuple[str, ...] = ()
        if self.has_template:
            pieces = self._from_template(messages)
        else:
            pieces, stops, start = _plain(messages), ("\n### ",), self._first_ids()
        if prefix:
            pieces = [*pieces, _Piece(prefix, content=True)]
        return Prompt(start + self._encode_pieces(pieces), stops)

    def opening(self) -> list[int]:
        """Ids of what stands in front of a user's first message."""
        if not self.has_template:
            return self._first_ids() + self._encode_pieces(_plain([Message("user", "")])[:1])
        pieces = self._from_template([Message("user", "")])
        return self._encode_pieces(pieces[: next(index for index, piece in enumerate(pieces) if piece.content)])

    def beginning(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a prompt up to where the text of its last message ends."""
        start, pieces = self._cut(messages)
        return start + self._encode_pieces(pieces)

    def places(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """For each id of `beginning`, its characters of the last message's text; both are below 0 in front of it."""
        start, pieces = self._cut(messages)
        found: list[tuple[int, int]] = []
        self._encode_pieces(pieces, found)
        first = sum(len(piece.text) for piece in pieces) - len(messages[-1].content)
        return [(-1, -1)] * len(start) + [(begin - first, end - first) for begin, end in found]

    def after(self, opened: Sequence[Message], messages: Sequence[Message], prefix: str = "") -> Prompt:
        """What follows the `beginning` of `opened` in a prompt that begins with it.

        Raises `EngineFailed` where it does not.
        """
        _, before = self._cut(opened)
        stops: tuple[str, ...] = ()
        if self.has_template:
            pieces = self._from_template(messages)
        else:
            pieces, stops = _plain(messages), ("\n### ",)
        last = len(before) - 1
        if pieces[:last] != before[:last] or not pieces[last].text.startswith(before[last].text):
            raise EngineFailed("the prompt does not begin with the document that was opened; open the right one")
        rest = [_Piece(pieces[last].text[len(before[last].text) :], content=True), *pieces[last + 1 :]]
        if prefix:
            rest.append(_Piece(prefix, content=True))
        return Prompt(self._encode_pieces(rest), stops)

    def content(self, text: str) -> list[int]:
        """Ids of a part of a message; nothing in it becomes a control token."""
        return self._encode_pieces([_Piece(text, content=True)])

    def count(self, text: str) -> int:
        """Tokens of `text` on its own."""
        return len(self._encode_text(text))

    def fingerprint(self) -> str:
        """Sixteen hex digits that are equal for equal tokenizers."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else repr(sorted(self._tokenizer.get_vocab().items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _cut(self, messages: Sequence[Message]) -> tuple[list[int], list[_Piece]]:
        """First ids, and the pieces up to and with the last message's text."""
        if self.has_template:
            start, pieces = list[int](), self._from_template(messages)
        else:
            start, pieces = self._first_ids(), _plain(messages)
        last = max(index for index, piece in enumerate(pieces) if piece.content)
        return start, pieces[: last + 1]

    def _from_template(self, messages: Sequence[Message]) -> list[_Piece]:
        from jinja2 import TemplateError

        reason = "it leaves out a message"
        for turns in (tuple(messages), fold_system(messages)):
            try:
                pieces = self._render(turns)
            except TemplateError as error:
                reason = str(error)
            else:
                if sum(piece.content for piece in pieces) >= len(turns):
                    return pieces
        roles = ", ".join(message.role for message in messages)
        raise EngineFailed(f"the model's chat template refuses turns in the order {roles}: {reason}")

    def _render(self, messages: Sequence[Message]) -> list[_Piece]:
        """Render with marks where the contents go, so that what is frame and what is content stays known."""
        marks = [{"role": message.role, "content": _mark(index)} for index, message in enumerate(messages)]
        text = self._tokenizer.apply_chat_template(
            marks, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        parts = re.split(r"longleaf-content-(\d+)-ends", text)
        return [
            _Piece(messages[int(part)].content, content=True) if odd % 2 else _Piece(part, content=False)
            for odd, part in enumerate(parts)
        ]

    def _first_ids(self) -> list[int]:
        start = self._tokenizer.bos_token_id
        first = self._tokenizer("").input_ids[:1]
        return [start] if start is not None and first == [start] else []

    def _encode_pieces(self, pieces: Sequence[_Piece], places: list[tuple[int, int]] | None = None) -> list[int]:
        """Encode frame and content between two control tokens as one text, as in the model's training.

        `places` takes each id's characters of all the pieces' text.
        """
        ids: list[int] = []
        run, began = "", 0
        for piece in pieces:
            for part, control in self._split(piece):
                if control is None:
                    run += part
                    continue
                ids += self._encode_text(run, began, places)
                began += len(run)
                run = ""
                if control >= 0:
                    ids.append(control)
                    if places is not None:
                        places.append((began, began + len(part)))
                    began += len(part)
        return ids + self._encode_text(run, began, places)

    def _split(self, piece: _Piece) -> list[tuple[str, int | None]]:
        """Text with None, a control token with its id, or a cut (-1) inside what only looks like one."""
        parts: list[tuple[str, int | None]] = []
        end = 0
        for match in self._control_pattern.finditer(piece.text):
            parts.append((piece.text[end : match.start()], None))
            if piece.content:
                parts += [(match[0][:1], None), ("", -1), (match[0][1:], None)]
            else:
                parts.append((match[0], self._control[match[0]]))
            end = match.end()
        return [*parts, (piece.text[end:], None)]

    def _encode_text(self, text: str, began: int = 0, places: list[tuple[int, int]] | None = None) -> list[int]:
        if not text:
            return []
        encoded = self._tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            verbose=False,
            return_offsets_mapping=places is not None,
        )
        if places is not None:
            places += [(began + start, began + end) for start, end in encoded.offset_mapping]
        return list(encoded.input_ids)


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same turns without the system role: what it says goes in front of the first user turn."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    turns = [message for message in messages if message.role != "system"]
    if not system:
        return tuple(turns)
    first = next((index for index, message in enumerate(turns) if message.role == "user"), None)
    if first is None:
        return (Message("user", system), *turns)
    turns[first] = Message("user", f"{system}\n\n{turns[first].content}")
    return tuple(turns)


def _plain(messages: Sequence[Message]) -> list[_Piece]:
    titles = {"system": "System", "user": "Question", "assistant": "Answer"}
    pieces: list[_Piece] = []
    for message in messages:
        pieces.append(_Piece(f"### {titles[message.role]}\n", content=False))
        pieces.append(_Piece(message.content, content=True))
        pieces.append(_Piece("\n\n", content=False))
    return [*pieces, _Piece("### Answer\n", content=False)]


def _mark(index: int) -> str:
    return f"longleaf-content-{index}-ends"


def _any_of(texts: Sequence[str] | dict[str, int]) -> re.Pattern[str]:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(re.escape(text) for text in longest_first) or r"(?!)")
