"""What a scripted model says to each reader, so that the reader goes through all its stages on one small book.

One function per reader, named as it is; replies depend on the request alone, so that a run that is resumed hears what
an unbroken one hears.
"""

from __future__ import annotations

import json
import re

from longleaf.engine.contract import Request

BOOK = "The capital of Freedonia is Zubrow. It lies on the river Lutz.\n\n" + "".join(
    f"Farm {number} of Freedonia grew wheat and rye on {number + 10} acres of land. " for number in range(30)
)
QUESTION = "What is the capital of Freedonia?"
QUESTIONS = {
    "hops": "On which river lies the capital of Freedonia?",
    "team": "On how many acres of land did a farm of Freedonia grow wheat and rye?",
    "clarify": "Who ruled over the river on which the capital of Freedonia lies?",
}
"""Questions of readers that pass over some of their stages with QUESTION."""

SENTENCE = "The capital of Freedonia is Zubrow."
FARMS = re.compile(r"Farm (\d+) of Freedonia grew wheat and rye on (\d+) acres")


def retrieve(request: Request) -> str:
    return SENTENCE if request.id.startswith("passage-") else "Zubrow, on the river Lutz, is the capital of it."


def hops(request: Request) -> str:
    if request.id.endswith("-answer"):
        return "Zubrow" if request.id == "hop-1-answer" else "Lutz"
    return SENTENCE if "passage" in request.id else "Zubrow, on the river Lutz, is the capital of it."


def direct(request: Request) -> str:
    return "Zubrow, on the river Lutz, is the capital of it."


def kv(request: Request) -> str:
    return "Zubrow, on the river Lutz, is the capital of it."


def structured(request: Request) -> str:
    if request.id == "answer":
        return "Zubrow, on the river Lutz, is the capital of it."
    part = request.messages[-1].content.rpartition("<text>\n")[2]
    found = [
        ("facts", f"Farm {number}", f"grew wheat and rye on {acres} acres") for number, acres in FARMS.findall(part)
    ]
    if SENTENCE in part:
        found.insert(0, ("facts", "capital of Freedonia", "Zubrow"))
    return json.dumps({"edits": [dict(zip(("field", "key", "value"), item, strict=True)) for item in found[:2]]})


def memory(request: Request) -> str:
    return _notes(request) if request.id.startswith("part-") else "Zubrow, on the river Lutz, is the capital of it."


def chain(request: Request) -> str:
    if not request.id.startswith("part-"):
        return "Zubrow, on the river Lutz, is the capital of it."
    return f"{_notes(request)}\n- Who built it?"


def _notes(request: Request) -> str:
    """What a model of middling quality notes of a part: a fact, something invented, the capital where it stands."""
    part = request.messages[-1].content.rpartition("<text>\n")[2].partition("</text>")[0]
    lines = [f" Farm {number} had wheat and rye on {acres} acres" for number, acres in FARMS.findall(part)[:1]]
    lines.append("- The queen of Freedonia was called Griselda.")
    if SENTENCE in part:
        lines.append(f"- {SENTENCE}")
    return "\n".join(lines)


def team(request: Request) -> str:
    """Members that copy a sentence or invent one, and differ; a leader that copies what it was given."""
    text = request.messages[-1].content.rpartition("<text>\n")[2].partition("</text>")[0]
    if request.id == "answer":
        return "Wheat and rye grew on the land."
    farms = list(FARMS.finditer(text))
    if request.id.startswith("part-"):
        return f'{farms[0].group()} of land."\n' if len(farms) % 2 else "The queen of Freedonia was called Griselda."
    if request.id.startswith(("side-", "exchange-")):
        return f"{farms[len(farms) // 2].group(2)} acres" if farms else "none"
    return text.partition("\n")[0]


def clarify(request: Request) -> str:
    """Raises one question of use, one that repeats and one that is none; answers from what it is shown."""
    if request.id == "answer":
        return "Zubrow, on the river Lutz, is the capital of it."
    if request.id.startswith(("raise-", "probe-")):
        return " On which river does Zubrow lie?\n2. What is the capital of Freedonia?\n3. Farms."
    return "Zubrow" if SENTENCE in request.messages[-1].content else "wheat and rye"


def attention(request: Request) -> str:
    return "Zubrow, on the river Lutz, is the capital of it."
