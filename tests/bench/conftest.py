"""The benches are scripts in a folder of their own; their modules are found there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
