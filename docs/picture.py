"""Draws docs/ask.svg: a real question, asked now, as a terminal shows it.

python docs/picture.py
"""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "Where do add-on application software packages go?"
COMMAND = ["ask", "examples/fhs-3.0.pdf", QUESTION]


def main() -> None:
    """Runs the command from the repository's root, in the library that LONGLEAF_LIBRARY names."""
    longleaf = Path(sys.executable).with_name("longleaf")
    terminal = {"COLUMNS": "96", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        [str(longleaf), *COMMAND],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **terminal},
    )
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=98, file=nowhere, force_terminal=True)
        console.print(Text(f'$ longleaf ask {COMMAND[1]} "{QUESTION}"', style="bold"))
        console.print(Text.from_ansi(done.stdout))
        (ROOT / "docs" / "ask.svg").write_text(console.export_svg(title="longleaf"), encoding="utf-8")


if __name__ == "__main__":
    main()
