"""From a 193-page PDF to the first answer, the second, and how quick the program itself starts.

    python bench/first_answer.py

Each measured command is its own process, as a user would start it. The models are fetched beforehand: what is timed is
reading and answering. Peak memory is the process's largest resident set with that of its children.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from report import shared_data, write

QUESTIONS = (
    "Which fields are mandatory in a binary package control file?",
    "What must a package's copyright file contain?",
)
LONGLEAF = Path(sys.executable).with_name("longleaf")


def timed(command: Sequence[str]) -> tuple[float, int]:
    """Wall seconds of a command, and the peak resident bytes of it and its children together."""
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in family))
        except psutil.Error:
            pass  # it ended between two looks
        time.sleep(0.05)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, peak


def median_seconds(command: Sequence[str], rounds: int = 7) -> float:
    def once() -> float:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - started

    return statistics.median(once() for _ in range(rounds))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", type=Path, help="a models folder to use [default: fetch]")
    chosen = arguments.parse_args()
    pdf = str(shared_data() / "demo_docs" / "debian-policy-4.6.2.pdf")
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "library"
        library.mkdir()
        os.environ["LONGLEAF_LIBRARY"] = str(library)
        if chosen.models:
            (library / "models").symlink_to(chosen.models.resolve())
        for model in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
            subprocess.run([LONGLEAF, "models", "get", model], check=True, capture_output=True)
        first, first_peak = timed([str(LONGLEAF), "ask", pdf, QUESTIONS[0]])
        second, second_peak = timed([str(LONGLEAF), "ask", pdf, QUESTIONS[1]])
    python = median_seconds([sys.executable, "-c", "pass"])
    imported = median_seconds([sys.executable, "-c", "import longleaf"]) - python
    helped = median_seconds([str(LONGLEAF), "--help"])
    write(
        "first_answer",
        [
            ("add 193 pages + first answer", f"{first:.1f} s", "", "< 120 s"),
            ("a second question, new process", f"{second:.1f} s", "", "< 15 s"),
            ("peak memory, add and first answer", f"{first_peak / 2**30:.2f} GiB", "", "< 2 GiB"),
            ("peak memory, second question", f"{second_peak / 2**30:.2f} GiB", "", "< 2 GiB"),
            ("`import longleaf`", f"{imported:.3f} s", f"python itself {python:.3f} s", "< 0.3 s"),
            ("`longleaf --help`", f"{helped:.3f} s", f"python itself {python:.3f} s", "< 0.7 s"),
        ],
        {},
    )


if __name__ == "__main__":
    main()
