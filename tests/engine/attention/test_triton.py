"""The kernels under Triton's interpreter, in a process of their own: the interpreter is chosen when they are imported.

bfloat16 products do not work there, so half precision stands for it; `bench/kv_gpu.py` checks bfloat16 on a GPU.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: pip install 'longleaf[gpu]'"
)
CHECKS = Path(__file__).with_name("triton_checks.py")
COMPILES = Path(__file__).with_name("triton_compiles.py")


@pytest.mark.parametrize("part", ["select", "decode", "prefill", "host", "step", "document", "engine"])
def test_kernels_agree_with_torch(part):
    ran = subprocess.run(
        [sys.executable, str(CHECKS), part],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith(f"{part} agrees\n")


def test_kernels_compile_for_cards_of_today():
    ran = subprocess.run([sys.executable, str(COMPILES)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout == "all compile\n"


def test_missing_triton_names_the_extra():
    script = (
        "import sys; sys.modules['triton'] = None\n"
        "from longleaf.engine.errors import MissingExtra\n"
        "try:\n    import longleaf.engine.attention.triton\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'longleaf[gpu]'" in ran.stdout
