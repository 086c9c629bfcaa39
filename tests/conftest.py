import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models_folder():
    """Where the real models are, for tests marked `model`."""
    default = Path(__file__).parent.parent / ".longleaf" / "models"
    return Path(os.environ.get("LONGLEAF_TEST_MODELS", default))
