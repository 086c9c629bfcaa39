"""`longleaf doctor`: what is installed and what is missing, with the command that fixes it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

from longleaf.engine.errors import LongleafError
from longleaf.engine.store import ModelStore
from longleaf.kept import folder_bytes
from longleaf.memory.database import Database
from longleaf.memory.folder import LibraryFolder
from longleaf.settings import Settings

_PARTS = ("torch", "transformers", "chromadb", "langgraph", "sqlalchemy", "pypdfium2", "lxml", "tiktoken")
_EXTRAS = {"openai": "openai", "psycopg": "postgres", "streamlit": "ui", "rapidocr": "ocr", "vllm": "vllm"}
_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `optional` is something missing that nothing you set needs."""

    what: str
    state: Literal["ok", "optional", "missing"]
    detail: str
    fix: str = ""


def examine(settings: Settings) -> list[Check]:
    """Look at everything a first question needs. Changes nothing and loads no model."""
    folder = LibraryFolder(settings.library)
    return [
        Check("python", "ok", f"{platform.python_version()} ({sys.executable})"),
        *_packages(settings),
        *_models(settings, folder),
        _library(settings, folder),
        _kept(folder),
        _disk(folder),
    ]


def _packages(settings: Settings) -> Iterator[Check]:
    for name in _PARTS:
        if util.find_spec(name):
            yield Check(name, "ok", metadata.version(name))
        else:
            yield Check(name, "missing", "not installed", "pip install --upgrade longleaf")
    needed = {"openai": settings.model.base_url, "psycopg": settings.database}
    for name, extra in _EXTRAS.items():
        if util.find_spec(name):
            yield Check(name, "ok", f"extra [{extra}]")
        else:
            state: Literal["missing", "optional"] = "missing" if needed.get(name) else "optional"
            yield Check(name, state, f"extra [{extra}] not installed", f"pip install 'longleaf[{extra}]'")


def _models(settings: Settings, folder: LibraryFolder) -> Iterator[Check]:
    here = {model.name: model for model in ModelStore(folder.models).list()}
    wanted = [settings.embedder] if settings.embedder != "hashed-words" else []
    if settings.model.base_url is None and not settings.model.name.startswith("scripted"):
        wanted.insert(0, settings.model.name)
    for name in wanted:
        model = here.get(name)
        if model is None:
            yield Check(f"model {name}", "optional", "fetched when first needed", f"longleaf models get {name}")
        elif model.fault:
            yield Check(f"model {name}", "missing", model.fault, f"longleaf models get {name}")
        else:
            yield Check(f"model {name}", "ok", f"{model.size / 1e6:.0f} MB, from {model.source}")


def _library(settings: Settings, folder: LibraryFolder) -> Check:
    if settings.database is None and not folder.database_file.exists():
        return Check("library", "ok", f"{folder.path} (made when a document is added)")
    try:
        with Database.open(settings.database or folder.database_file, read_only=True):
            return Check("library", "ok", str(folder.path))
    except LongleafError as error:
        return Check("library", "missing", str(error), "see the message")


def _kept(folder: LibraryFolder) -> Check:
    return Check("kept documents", "ok", f"{folder_bytes(folder.kv) / 1e6:,.0f} MB in {folder.kv}")


def _disk(folder: LibraryFolder) -> Check:
    place = folder.path
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < _FREE_BYTES:
        return Check("disk", "missing", f"{free / 1e9:.1f} GB free", "free 2 GB, or set LONGLEAF_LIBRARY elsewhere")
    return Check("disk", "ok", f"{free / 1e9:.0f} GB free")
