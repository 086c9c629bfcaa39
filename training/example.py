"""An example: a prompt as one of Longleaf's readers would send it, and the reply that is wanted."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# Contexts come again and again: a window over all of them makes the file a sixth of the size.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 3, "dict_size": 1 << 27}]


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and its reply.

    `task` and `source` are for counting; a `text` example has no prompt, only a reply. `about` is the question asked,
    so that one that is held out is so in all its forms.
    """

    task: str
    source: str
    system: str
    user: str
    prefix: str
    reply: str
    about: str = ""


def example(task: str, source: str, prompt: str, reply: str, **slots: str) -> Example:
    """The example that the prompt file `prompt` makes with its slots filled."""
    from longleaf.agents.prompt import (
        load,
    )  # not at the top: training itself runs where only the engine can be imported

    loaded = load(prompt)
    messages = loaded.messages(**slots)
    reply = f" {reply}" if loaded.prefix == "-" and reply else reply
    about = slots.get("question", "")
    return Example(task, source, loaded.system, messages[-1].content, loaded.prefix, reply, about)


def write(examples: Iterable[Example], file: Path) -> None:
    """Write examples as compressed lines of JSON, by one rename."""
    scratch = file.with_name(f".{file.name}.new")
    with lzma.open(scratch, "wt", encoding="utf-8", filters=_FILTERS) as lines:
        for item in examples:
            lines.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
    scratch.replace(file)


def read(file: Path) -> Iterator[Example]:
    """The examples of a file that `write` wrote."""
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield Example(**json.loads(line))
