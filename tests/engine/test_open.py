import subprocess
import sys

import pytest

from longleaf.engine import EngineFailed, ModelNotFound, ModelStore, open_engine


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return ModelStore(tmp_path, ())


def test_scripted(store):
    assert open_engine("scripted:Yes.", store, window=10).card.window == 10
    with pytest.raises(EngineFailed):
        open_engine("scripted", store)


def test_local_path(store, tiny_model):
    engine = open_engine(str(tiny_model), store, device="cpu", dtype="float32", window=100)
    assert (engine.card.name, engine.card.window) == ("tiny-llama", 100)


def test_server(store):
    engine = open_engine("some-model", store, base_url="http://127.0.0.1:9/v1", window=1234)
    assert (engine.card.name, engine.card.backend, engine.card.window) == ("some-model", "openai", 1234)
    engine.close()


def test_unknown(store):
    with pytest.raises(ModelNotFound):
        open_engine("nonsense", store)


def test_import_is_light():
    heavy = "{'torch', 'transformers', 'openai', 'tiktoken', 'gguf', 'pydantic', 'numpy', 'huggingface_hub'}"
    code = f"import sys, longleaf.engine; sys.exit(str({heavy} & set(sys.modules) or '') or None)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
