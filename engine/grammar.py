"""Constrained decoding: which tokens may come next, so that a reply cannot but meet its `Grammar`.

The work is done by llguidance, which walks an Earley parser over the vocabulary's byte trie and gives a mask for
each token; see "Grammar-Constrained Decoding for Structured NLP Tasks without Finetuning", Geng et al. 2023
(arXiv:2305.13971). It is imported when a grammar is first used.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.engine.contract import Grammar
from longleaf.engine.errors import EngineFailed, MissingExtra

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer

# A space may follow a comma or colon, as models write JSON; free white space is where small ones get lost.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_SPACED = {"whitespace_flexible": True, "item_separator": ",", "key_separator": ":"}
# Keywords of a schema that hold schemas: by name, or alone or in a list.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_PARTS = frozenset({"items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"})
# What llguidance may spend on a lexer before it begins: its own limit, and for a span what a text of its length takes,
# between 10 and 20 a byte in the worst of eight kinds tried. A byte of text costs some 150 bytes of memory.
_LEAST_FUEL = 1_000_000
_FUEL_A_BYTE = 40


def can_constrain(tokenizer: Any) -> bool:
    """Whether replies in this tokenizer's vocabulary can be held to a grammar here."""
    return find_spec("llguidance") is not None and bool(getattr(tokenizer, "is_fast", False))


class Grammars:
    """Compiles grammars for one tokenizer. `ends` are the token ids that end a turn."""

    def __init__(self, tokenizer: Any, ends: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = sorted(ends)
        self._last: tuple[Grammar, LLMatcher] | None = None

    def matcher(self, grammar: Grammar) -> Matcher:
        """A matcher at the start of a reply.

        Raises `MissingExtra` without llguidance, `EngineFailed` where the grammar is not a valid one or the
        tokenizer has no fast form.
        """
        avoided = None
        if grammar.otherwise and (grammar.margin or grammar.among > 1):
            first = self._tokenizer(grammar.otherwise[0], add_special_tokens=False)["input_ids"][0]
            avoided = (int(first), grammar.margin)
        return Matcher(self._compiled(grammar).deep_copy(), self._ends, avoided)

    def _compiled(self, grammar: Grammar) -> LLMatcher:
        """The last one is kept: questions on a text that is kept read follow each other, and a book takes a second."""
        bare = replace(grammar, margin=0.0, among=1)
        if self._last is None or self._last[0] != bare:
            self._last = None  # freed first, for of a book it is large
            self._last = (bare, compile_grammar(bare, self._vocabulary))
        return self._last[1]

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        _import_llguidance()
        from llguidance.hf import from_tokenizer

        end = self._ends[0] if self._ends else None
        try:
            vocabulary = from_tokenizer(self._tokenizer, eos_token=end)
            if not _reads_alike(vocabulary, self._tokenizer):
                vocabulary = from_tokenizer(_byte_level(self._tokenizer), eos_token=end)
        except ValueError as error:
            raise EngineFailed(
                f"replies of this model cannot be held to a grammar ({error}); choose a model with a fast "
                "tokenizer (tokenizer.json)"
            ) from error
        if not _reads_alike(vocabulary, self._tokenizer):
            raise EngineFailed(
                "replies of this model cannot be held to a grammar: llguidance reads its tokens otherwise than its "
                "tokenizer does; choose another model, or set read.copy_spans to never"
            )
        return vocabulary


def _reads_alike(vocabulary: LLTokenizer, tokenizer: Any) -> bool:
    """Whether the bytes that llguidance takes tokens for are those that they stand for."""
    text = "One, two; été {3}"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return bool(vocabulary.decode_bytes(ids).decode(errors="replace").strip() == text)


def _byte_level(tokenizer: Any) -> Any:
    """The tokenizer with a decoder of bytes alone.

    What transformers makes of a GGUF file may decode by several rules in a row, the last of them by bytes. llguidance
    takes the first for the whole: every space is then a letter to it, and a reply ends after one word.
    """
    from tokenizers import decoders

    twin = copy.deepcopy(tokenizer)
    twin.backend_tokenizer.decoder = decoders.ByteLevel()
    return twin


class Matcher:
    """Follows one reply through its grammar. `avoided` is a token that must be likelier by so much to begin it.

    `lead` is by how much it was, in units of the natural logarithm; none before the first `mask`.
    """

    def __init__(self, matcher: LLMatcher, ends: list[int], avoided: tuple[int, float] | None = None) -> None:
        self._matcher = matcher
        self._ends = ends
        self._avoided = avoided
        self.lead: float | None = None

    @property
    def avoided(self) -> int | None:
        """The token that is begun with only by a margin; none once the reply has begun."""
        return self._avoided[0] if self._avoided is not None else None

    def copy(self) -> Matcher:
        """A matcher at the same place, which goes its own way from here."""
        return Matcher(self._matcher.deep_copy(), self._ends, self._avoided)

    def mask(self, logits: torch.Tensor) -> None:
        """Set the logits `[vocabulary]` of tokens that may not come next to minus infinity, in place.

        Where the grammar has failed they stay as they are, and `accept` says so.
        """
        import torch

        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(packed, count=logits.shape[-1], bitorder="little")
        if self._ends:
            bits[self._ends] = bits[self._ends[0]]
        if self._matcher.is_error() or not bits.any():
            return
        logits.masked_fill_(torch.from_numpy(bits == 0).to(logits.device), float("-inf"))
        if self._avoided is not None:
            token, margin = self._avoided
            begun = logits[token].clone()
            logits[token] = float("-inf")
            self.lead = float(begun - logits.max())
            logits[token] = begun - margin

    def accept(self, token: int) -> bool:
        """Take the token drawn after `mask`; returns whether the reply is whole.

        Raises `EngineFailed` where the grammar allows no such token, or grew too complex to follow.
        """
        self._avoided = None
        if not self._matcher.is_error():
            if token in self._ends and self._matcher.is_accepting():
                return True
            self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise EngineFailed(f"the reply cannot be held to its grammar: {_first_line(self._matcher.get_error())}")
        return self._matcher.is_stopped()


class Check:
    """Whether text meets a grammar, without a model: what a server sent is held against what it was asked for.

    Raises as `Grammars.matcher` does.
    """

    def __init__(self, grammar: Grammar) -> None:
        llguidance = _import_llguidance()
        self._json = grammar.kind == "json"
        vocabulary = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))
        self._matcher = compile_grammar(grammar, vocabulary, spaced=True)

    def whole(self, text: str) -> bool:
        """Whether `text` is a whole reply. JSON may have white space anywhere."""
        if self._json:
            try:
                text = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            except ValueError:
                return False
        return self._follow(text) and self._matcher.is_accepting()

    def beginning(self, text: str) -> bool:
        """Whether `text` may be the beginning of a whole reply; of JSON, up to the first escape by number."""
        return self._follow(text.lstrip().partition("\\u")[0] if self._json else text)

    def _follow(self, text: str) -> bool:
        data = list(text.encode(errors="replace"))
        self._matcher.reset()
        return self._matcher.try_consume_tokens(data) == len(data)


class _Bytes:
    """A vocabulary of the 256 bytes and an end."""

    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)
    tokens = (*(bytes([value]) for value in range(256)), b"<end>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def compile_grammar(grammar: Grammar, vocabulary: LLTokenizer, *, spaced: bool = False) -> LLMatcher:
    """A matcher of llguidance's own; `spaced` lets white space be anywhere that JSON allows it.

    Raises `EngineFailed` with its complaint where the grammar is not a valid one.
    """
    llguidance = _import_llguidance()
    try:
        size = len(grammar.source.encode(errors="replace")) if grammar.kind == "span" else 0
        # Long error texts would quote the document.
        limits = llguidance.LLParserLimits(
            verbose_errors=False, initial_lexer_fuel=max(_LEAST_FUEL, _FUEL_A_BYTE * size)
        )
        matcher: LLMatcher = llguidance.LLMatcher(vocabulary, _definition(grammar, spaced), log_level=0, limits=limits)
    except ValueError as error:
        raise EngineFailed(f"the {grammar.kind} grammar is not valid: {error}") from error
    if matcher.is_error():
        raise EngineFailed(f"the {grammar.kind} grammar is not valid: {_first_line(matcher.get_error())}")
    return matcher


def _definition(grammar: Grammar, spaced: bool) -> str:
    matcher = _import_llguidance().LLMatcher
    if grammar.kind == "json":
        form = {"overrides": _SPACED} if spaced else {"defaults": _COMPACT}
        return str(matcher.grammar_from_json_schema(grammar.source, **form))
    if grammar.kind == "regex":
        return str(matcher.grammar_from_regex(grammar.source))
    return str(matcher.grammar_from_lark(lark(grammar)))


def lark(grammar: Grammar) -> str:
    """A choice or span in the Lark form that llguidance reads.

    Raises `EngineFailed` where there is nothing to choose or copy.
    """
    if grammar.kind == "choice":
        options = [_quoted(option) for option in json.loads(grammar.source)]
        if not options:
            raise EngineFailed("a choice grammar needs at least one option")
        return f"start: CHOICE\nCHOICE: {' | '.join(options)}"
    rules = {}
    if grammar.source.strip():
        text = json.dumps({"substring_words": grammar.source}, ensure_ascii=False)
        rules["SPAN"] = f"PIECE & /\\S((?s:.)*\\S)?/\nPIECE: %regex {text}"
    if grammar.otherwise:
        rules["OTHERWISE"] = " | ".join(map(_quoted, grammar.otherwise))
    if not rules:
        raise EngineFailed("a span grammar needs a text with at least one word")
    return "\n".join([f"start: {' | '.join(rules)}", *(f"{name}: {rule}" for name, rule in rules.items())])


def _quoted(text: str) -> str:
    # The grammar's lexer takes no DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def bounded(schema: Mapping[str, Any], *, characters: int = 200, items: int = 16) -> dict[str, Any]:
    """A copy of a JSON schema in which everything ends.

    A string without a bound of its own gets `maxLength` of `characters`, an array `maxItems` of `items`, an
    integer ten digits; an object that lists its properties takes no others. Numbers with a fraction stay as
    they are, since a schema cannot bound their digits.
    """
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED:
            result[key] = {name: _bounded(part, characters, items) for name, part in value.items()}
        elif key in _PARTS:
            result[key] = (
                [_bounded(part, characters, items) for part in value]
                if isinstance(value, list)
                else _bounded(value, characters, items)
            )
        else:
            result[key] = value
    if "enum" in schema or "const" in schema:
        return result
    kind = schema.get("type", ())
    kinds = {kind} if isinstance(kind, str) else set(kind)
    if "string" in kinds and not {"pattern", "format"} & schema.keys():
        result.setdefault("maxLength", characters)
    if "array" in kinds:
        result.setdefault("maxItems", items)
    if "integer" in kinds:
        if "exclusiveMinimum" not in schema:
            result.setdefault("minimum", -(10**10) + 1)
        if "exclusiveMaximum" not in schema:
            result.setdefault("maximum", 10**10 - 1)
    if "object" in kinds and "properties" in schema:
        result.setdefault("additionalProperties", False)
    return result


def _bounded(part: Any, characters: int, items: int) -> Any:
    return bounded(part, characters=characters, items=items) if isinstance(part, Mapping) else part


def _import_llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtra("replies held to a grammar need llguidance; run: pip install llguidance") from error
    return llguidance


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
