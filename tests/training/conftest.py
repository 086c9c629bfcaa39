"""Training is a folder of scripts; their modules are found there."""

import os
import sys
from pathlib import Path

import pytest
from tiny_llama import write_model

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "training"))


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a tiny model to train on, which no test changes."""
    return write_model(tmp_path_factory.mktemp("base") / "tiny", window=512, spread=0.02, seed=3)


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
