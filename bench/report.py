"""What every bench shares: where the data lies, what machine this is, and how results are written."""

from __future__ import annotations

import json
import os
import platform
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
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {date.today().isoformat()}"


def write(name: str, rows: Sequence[tuple[str, str, str, str]], details: dict[str, Any]) -> None:
    """Write `bench/out/NAME.json` and `.md` and print the table. Rows are (measure, result, baseline, target)."""
    OUT.mkdir(parents=True, exist_ok=True)
    lines = ["| measure | result | baseline, same run | target |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    table = "\n".join(lines)
    (OUT / f"{name}.md").write_text(f"{table}\n\n{machine()}\n", encoding="utf-8")
    keys = ("measure", "result", "baseline", "target")
    plain = {"machine": machine(), "rows": [dict(zip(keys, row, strict=True)) for row in rows], **details}
    (OUT / f"{name}.json").write_text(json.dumps(plain, indent=2), encoding="utf-8")
    print(table)
    print(f"\n{machine()}\nwritten to {(OUT / name).relative_to(ROOT)}.json and .md")
