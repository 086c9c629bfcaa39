"""What every bench shares: where the data lies, what machine this is, and how results are written."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out"


def shared_data() -> Path:
    """The folder of evaluation data, beside the repository or in LONGLEAF_SHARED. Exits where there is none."""
    folder = Path(os.environ.get("LONGLEAF_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        raise SystemExit(f"no evaluation data in {folder}; set LONGLEAF_SHARED")
    return folder


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def machine() -> str:
    """Processor, cores and date, as they go under every table."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    torch = sys.modules.get("torch")  # not imported for this: only a bench that runs a model has it
    gpu = f", {torch.cuda.get_device_name(0)}" if torch is not None and torch.cuda.is_available() else ""
    return f"{model}{gpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {date.today().isoformat()}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write(name: str, rows: Sequence[tuple[str, str, str, str]], details: dict[str, Any]) -> None:
    """Write `bench/out/NAME.json` and `.md` and print the table. Rows are (measure, result, baseline, target)."""
    keys = ("measure", "result", "baseline", "target")
    shown = table(("measure", "result", "baseline, same run", "target"), rows)
    plain = {"machine": machine(), "rows": [dict(zip(keys, row, strict=True)) for row in rows], **details}
    keep(name, f"{shown}\n\n{machine()}", plain)


def keep(name: str, text: str, details: dict[str, Any]) -> None:
    """Write `bench/out/NAME.md` and `.json` and print the text."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")
    (OUT / f"{name}.json").write_text(json.dumps(details, indent=2, ensure_ascii=False), encoding="utf-8")
    print(f"{text}\nwritten to {(OUT / name).relative_to(ROOT)}.json and .md")
