"""Training is a folder of scripts; their modules are found there."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "training"))


@pytest.fixture(scope="session")
def data():
    folder = Path(os.environ.get("LONGLEAF_SHARED", ROOT.parent / "shared")) / "data"
    if not (folder / "train_reader").is_dir():
        pytest.skip("the training files are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def evaluation(data):
    from overlap import Evaluation

    return Evaluation.read(data)


@pytest.fixture(scope="session")
def pool(data, evaluation):
    from overlap import without
    from sources import read

    return without(read(data), evaluation)[0]
