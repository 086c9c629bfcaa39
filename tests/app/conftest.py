"""The `longleaf` command as a real process, on a library of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BOOK = (
    "The capital of Freedonia is Zubrow. It lies on the river Lutz, and 4,000 people live in it.\n\n"
    "The king was crowned in 1887. He was not loved by the farmers of the north. He built the bridge.\n"
)
ANSWER = "The capital of Freedonia is Zubrow."


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Running:
    """A command under way."""

    pid: int
    out: Path
    err: Path
    server: subprocess.Popen[str]

    def wait(self) -> Done:
        code = tell(self.server, {"wait": self.pid})
        return Done(code, self.out.read_text(), self.err.read_text())

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def until(self, words: str, file: Path | None = None) -> None:
        """Wait until the command has said this."""
        file = file or self.err
        for _ in range(2000):
            if file.exists() and words in file.read_text():
                return
            time.sleep(0.01)
        raise AssertionError(f"never said {words!r}: {self.out.read_text()} {self.err.read_text()}")


def tell(server: subprocess.Popen[str], order: dict[str, Any]) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = Path(__file__).with_name("command.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@dataclass
class Shell:
    """Runs commands in a folder, with a library beside the files."""

    folder: Path
    server: subprocess.Popen[str]
    env: dict[str, str] = field(default_factory=dict)
    count: int = 0

    @property
    def library(self) -> Path:
        return self.folder / "library"

    def start(self, *argv: str, delay: float = 0.0, **env: str) -> Running:
        self.count += 1
        out, err = self.folder / f".out{self.count}", self.folder / f".err{self.count}"
        order = {
            "argv": argv,
            "cwd": str(self.folder),
            "env": {**self.env, **env},
            "out": str(out),
            "err": str(err),
            "delay": delay,
        }
        return Running(tell(self.server, order), out, err, self.server)

    def __call__(self, *argv: str, delay: float = 0.0, **env: str) -> Done:
        done = self.start(*argv, delay=delay, **env).wait()
        assert "Traceback" not in done.err, done.err
        return done

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No settings but those of the tests: no model to load, no terminal, a home that is empty."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LONGLEAF_")}
    return {
        **kept,
        "HOME": str(tmp_path / "home"),
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
        "LONGLEAF_LIBRARY": str(tmp_path / "library"),
        "LONGLEAF_EMBEDDER": "hashed-words",
        "LONGLEAF_MODEL__NAME": f"scripted:{ANSWER}",
    }


@pytest.fixture
def shell(tmp_path: Path, server: subprocess.Popen[str], environment: dict[str, str]) -> Shell:
    return Shell(tmp_path, server, environment)


@pytest.fixture
def book(shell: Shell) -> Path:
    return shell.write("book.txt", BOOK)


@pytest.fixture
def added(shell: Shell, book: Path) -> str:
    """The id of the book, in the library."""
    document_id: str = shell("add", "book.txt", "--json").json[0]["id"]
    return document_id


@pytest.fixture
def real(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python, or `longleaf` as it was installed, without any of the shortcuts above."""

    def run(*argv: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code or "from longleaf.cli import main; main()", *argv],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=120,
            check=False,
        )

    return run
