"""The child process that reads a file in native code: `python -m longleaf.retrieval.parsers.worker`.

Standard input: one line of JSON (the job) and the file's bytes. Standard output: lines of JSON, `{"page",
"of"}` while it reads, last `{"text"}` or `{"error", "kind"}`. JSON, because the parent must not unpickle
what a process that read a hostile file says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from typing import Any, Final

from longleaf.engine.errors import LongleafError
from longleaf.retrieval.parsers.job import Job, OnPage
from longleaf.retrieval.parsers.limits import Limits
from longleaf.retrieval.text import Text

Reader = Callable[[Job, OnPage], Text]
READERS: Final = frozenset({"pdf", "docx", "epub", "html", "markdown", "text"})


def reader(name: str) -> Reader:
    """The `read` of the parser for format `name`, imported now. Raises `ValueError` on another name."""
    if name not in READERS:
        raise ValueError(f"there is no parser {name!r}")
    module = "plain" if name == "text" else name
    found: Reader = import_module(f"longleaf.retrieval.parsers.{module}").read
    return found


def main() -> None:
    """Reads one job, writes its outcome."""
    header = json.loads(sys.stdin.buffer.readline())
    limits = Limits(**header["limits"])
    _cap_memory(limits)
    job = Job(header["name"], sys.stdin.buffer.read(), limits, header["ocr"], tuple(header["skip"]))
    try:
        text = reader(header["format"])(job, lambda done, total: _say({"page": done, "of": total}))
    except LongleafError as error:
        _say({"error": str(error), "kind": type(error).__name__})
    except MemoryError:
        reason = job.refuse(
            "reading it needs more memory than Limits.memory_bytes allows", "Raise it, or split the file."
        )
        _say({"error": str(reason), "kind": type(reason).__name__})
    else:
        _say({"text": asdict(text)})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _cap_memory(limits: Limits) -> None:
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        cap = limits.memory_bytes if hard == resource.RLIM_INFINITY else min(hard, limits.memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (cap, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
