"""A library survives SIGKILL at any point of an add."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = 24


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_random_points_documents_are_whole_or_absent(tmp_path):
    adder = Path(__file__).with_name("adder.py")

    done = subprocess.run(
        [sys.executable, str(adder), str(tmp_path / "library"), str(ROUNDS), "20261122"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > ROUNDS
