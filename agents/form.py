"""Forms: what a structured memory may hold, and the edits that a model makes to it.

A form is a few typed fields, each a table of keys and values; an edit adds a key to a field or gives it a new value.
After PRISM (Jayalath et al. 2024, arXiv:2412.18914), which keeps a memory under a typed schema for each task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from longleaf.agents.errors import SchemaUnknown
from longleaf.agents.reader import Task

EDITS = 3
"""Most edits of one reply: short replies are what makes a structured memory cheap."""

GENERATED = "generate"
_KEY = 40
_VALUE = 160
_FIELDS = 4
_NAME = re.compile(r"[a-z][a-z_]{1,19}")
_FIRST_WORDS = (
    ("figures", re.compile(r"\bhow (?:many|much|long|far|old|large|big|tall|high)\b|\b(?:number|amount|share) of\b")),
    ("events", re.compile(r"\bwhen\b|\b(?:what|which) (?:year|date|day|month)\b|\bin what order\b")),
    ("people", re.compile(r"\bwho(?:m|se)?\b")),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One table of a form: its name, and in a few words what its keys and values are."""

    name: str
    holds: str


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a memory."""

    name: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """What `key` of `field` is from now on."""

    field: str
    key: str
    value: str


_FACTS = Field("facts", "what it is about: what the text says of it")
_PEOPLE = Field("people", "a person: who that is, what the person does")
_EVENTS = Field("events", "a date or time: what happened then")
_FIGURES = Field("figures", "what is counted or measured: the number and its unit")


def forms() -> dict[str, Form]:
    """The forms that come with Longleaf, by name."""
    known = (
        Form("facts", (_FACTS,)),
        Form("people", (_PEOPLE, _FACTS)),
        Form("events", (_EVENTS, _FACTS)),
        Form("figures", (_FIGURES, _FACTS)),
        Form("summary", (Field("topics", "a topic: the most important thing said of it"), _PEOPLE, _EVENTS)),
    )
    return {form.name: form for form in known}


def form(name: str, question: str, task: Task) -> Form:
    """The form of that name; "auto" and "generate" take the one that fits the question's words best.

    Raises `SchemaUnknown`.
    """
    known = forms()
    if name in known:
        return known[name]
    if name not in ("auto", GENERATED):
        raise SchemaUnknown(
            f"There is no schema {name!r} for a structured memory. Choose one of: auto, {GENERATED}, "
            f"{', '.join(known)} (--set read.memory_schema=facts)."
        )
    if task == "summary":
        return known["summary"]
    asked = question.casefold()
    return next((known[kind] for kind, pattern in _FIRST_WORDS if pattern.search(asked)), known["facts"])


def edit_schema(chosen: Form) -> dict[str, Any]:
    """The JSON schema of a reply that edits a memory of this form."""
    edit = {
        "type": "object",
        "properties": {
            "field": {"enum": [field.name for field in chosen.fields]},
            "key": _short(_KEY, ":"),
            "value": _short(_VALUE),
        },
        "required": ["field", "key", "value"],
        "additionalProperties": False,
    }
    return _listing("edits", edit, 0, EDITS)


def form_schema() -> dict[str, Any]:
    """The JSON schema of a reply that makes a form."""
    field = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": f"^{_NAME.pattern}$"}, "holds": _short(60)},
        "required": ["name", "holds"],
        "additionalProperties": False,
    }
    return _listing("fields", field, 1, _FIELDS)


def edits(reply: str, chosen: Form) -> list[Edit] | None:
    """The edits of a reply, as far as it is whole; None where it is none at all.

    A model that is not held to a grammar, or whose reply was cut short, may send anything: what is no edit of this
    form is passed over.
    """
    names = {field.name for field in chosen.fields}
    found = [
        Edit(item["field"], _flat(item["key"].replace(":", " "))[:_KEY].strip(), _flat(item["value"])[:_VALUE].strip())
        for item in _objects(reply)
        if all(isinstance(item.get(key), str) for key in ("field", "key", "value")) and item["field"] in names
    ]
    told = [edit for edit in found if edit.key and any(character.isalnum() for character in edit.value)]
    return told[:EDITS] if told or '"edits"' in reply else None


def generated(reply: str) -> Form | None:
    """The form that a reply makes; None where it makes none."""
    fields = {
        item["name"]: Field(item["name"], _flat(item["holds"])[:60])
        for item in _objects(reply)
        if isinstance(item.get("name"), str) and isinstance(item.get("holds"), str) and _NAME.fullmatch(item["name"])
    }
    return Form(GENERATED, tuple(fields.values())[:_FIELDS]) if fields else None


def described(chosen: Form) -> str:
    """A form as a prompt shows it."""
    return "\n".join(f"- {field.name}: {field.holds}" for field in chosen.fields)


def _short(length: int, also: str = "") -> dict[str, str]:
    """A string of one line without quotation marks and braces: nothing in it needs an escape or looks like JSON."""
    return {"type": "string", "pattern": rf'^[^"\\{{}}\n\r\t{also}]{{1,{length}}}$'}


def _listing(name: str, item: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    items = {"type": "array", "items": item, "minItems": least, "maxItems": most}
    return {"type": "object", "properties": {name: items}, "required": [name], "additionalProperties": False}


def _objects(reply: str) -> Iterator[dict[str, Any]]:
    """The innermost whole JSON objects of a reply, in order."""
    for match in re.finditer(r"\{[^{}]*\}", reply):
        try:
            item = json.loads(match[0])
        except ValueError:
            continue
        if isinstance(item, dict):
            yield item


def _flat(text: str) -> str:
    return " ".join(text.split())


def plain(chosen: Form) -> list[list[str]]:
    """A form for a graph's state; `restored` makes it a form again."""
    return [[field.name, field.holds] for field in chosen.fields]


def restored(fields: Sequence[Sequence[str]]) -> Form:
    return Form("", tuple(Field(name, holds) for name, holds in fields))
