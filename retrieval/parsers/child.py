"""Reading in a child process: a hang or crash of a native library costs a document and not the program."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from longleaf.engine.errors import LongleafError, MissingExtra
from longleaf.retrieval.errors import DocumentError
from longleaf.retrieval.parsers.format import Format
from longleaf.retrieval.parsers.job import Job, OnPage
from longleaf.retrieval.text import Heading, Page, Text

log = logging.getLogger(__name__)

WORKER: Final = "longleaf.retrieval.parsers.worker"
CRASHES: Final = 5
"""Pages that may crash the library before the document is given up."""
KINDS: Final = {"DocumentError": DocumentError, "MissingExtra": MissingExtra}


@dataclass
class _Outcome:
    """What a child said before it ended. `page` is the last it finished, -1 before it counted them."""

    page: int = -1
    total: int = 0
    text: Text | None = None
    error: LongleafError | None = None
    status: int = 0
    late: bool = False
    trace: str = ""


def read_in_child(job: Job, format_: Format, on_page: OnPage, *, worker: str = WORKER) -> Text:
    """The text of `job`'s file, read by a fresh Python process that is killed after `Limits.seconds`.

    A page on which the library crashes is left out and holds the error; the pages around it are read. Raises
    `DocumentError` when that happens too often, time or memory runs out, or the file cannot be read, and
    `MissingExtra` when OCR is asked for but not installed.
    """
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done > told:
            told = done
            on_page(done, total)

    while True:
        outcome = _run(job, format_, tell, worker)
        if outcome.text is not None:
            return outcome.text
        if outcome.error is not None:
            raise outcome.error
        if outcome.late:
            raise job.refuse(
                f"reading it took longer than {job.limits.seconds:g} seconds ({_where(outcome)})",
                "Raise Limits.seconds, or split the file.",
            )
        page = outcome.page + 1
        while page in job.skip:
            page += 1
        if outcome.page < 0 or page > outcome.total or len(job.skip) >= CRASHES or format_.name != "pdf":
            log.warning("%s: the parser ended with status %s\n%s", job.name, outcome.status, outcome.trace)
            raise job.refuse(
                f"the {format_.name} parser failed on it ({_cause(outcome)}; {_where(outcome)})",
                "The file is probably damaged: repair or convert it. If other programs open it, report it.",
            )
        log.warning("%s: the parser crashed on page %d; reading on without it", job.name, page)
        job = replace(job, skip=(*job.skip, page))


def _run(job: Job, format_: Format, on_page: OnPage, worker: str) -> _Outcome:
    header = {
        "name": job.name,
        "format": format_.name,
        "limits": asdict(job.limits),
        "ocr": job.ocr,
        "skip": job.skip,
    }
    outcome = _Outcome()
    with tempfile.TemporaryFile() as trace, _process(worker, trace) as process:
        clock = threading.Timer(job.limits.seconds, _kill, (process, outcome))
        clock.daemon = True
        clock.start()
        try:
            _send(process, json.dumps(header).encode() + b"\n", job.data)
            assert process.stdout is not None
            for line in process.stdout:
                _hear(json.loads(line), outcome, on_page)
            outcome.status = process.wait()
        except json.JSONDecodeError:
            pass  # It died in the middle of a message, which its status says better.
        finally:
            clock.cancel()
        trace.seek(0)
        outcome.trace = trace.read()[-4000:].decode("utf-8", "replace").strip()
    return outcome


@contextmanager
def _process(worker: str, trace: Any) -> Iterator[subprocess.Popen[bytes]]:
    # -P: a json.py in the working folder must not be imported. The parent's path, so that the child can
    # import what the parent can.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=trace,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                _close(stream)


def _send(process: subprocess.Popen[bytes], *parts: bytes) -> None:
    assert process.stdin is not None
    try:
        for part in parts:
            process.stdin.write(part)
        process.stdin.close()
    except BrokenPipeError:
        pass  # It died before it read everything, which its status says better.


def _close(stream: Any) -> None:
    with suppress(BrokenPipeError):
        stream.close()


def _hear(message: dict[str, Any], outcome: _Outcome, on_page: OnPage) -> None:
    if "page" in message:
        outcome.page, outcome.total = message["page"], message["of"]
        if outcome.page > 0:
            on_page(outcome.page, outcome.total)
    elif "error" in message:
        outcome.error = KINDS.get(message["kind"], DocumentError)(message["error"])
    else:
        found = message["text"]
        outcome.text = Text(
            found["characters"],
            tuple(Page(**page) for page in found["pages"]),
            tuple(Heading(**heading) for heading in found["headings"]),
            found["title"],
            found["unit"],
        )


def _kill(process: subprocess.Popen[bytes], outcome: _Outcome) -> None:
    outcome.late = True
    process.kill()


def _where(outcome: _Outcome) -> str:
    return "before the first page" if outcome.page < 0 else f"after page {outcome.page} of {outcome.total}"


def _cause(outcome: _Outcome) -> str:
    if outcome.status < 0:
        return f"killed by signal {-outcome.status}"
    return outcome.trace.rpartition("\n")[2] or f"exit status {outcome.status}"
