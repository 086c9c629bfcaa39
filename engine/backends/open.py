"""Opens an engine from the few words a user types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longleaf.engine.contract import Engine
from longleaf.engine.errors import EngineFailed
from longleaf.engine.store import ModelStore

if TYPE_CHECKING:
    from longleaf.engine.backends.torch import TorchEngine


def open_engine(
    spec: str,
    store: ModelStore,
    *,
    adapter: Path | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    window: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    device: str = "auto",
    threads: int | None = None,
    timeout: float = 120.0,
    retries: int = 4,
    concurrency: int = 8,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Engine:
    """The engine `spec` means.

    With `base_url`, `spec` is the name of a model on that OpenAI-compatible server, and `api_key`, `timeout`
    (seconds), `retries` and `concurrency` apply. `scripted:echo` and `scripted:TEXT` need no model. Anything
    else is a catalog name, a hub id or a local path, fetched through `store` where needed and run with
    PyTorch; `dtype`, `device` and `threads` apply, and `adapter`, a folder with a LoRA as peft saves it. `window`
    counts tokens.

    Raises `ModelNotFound`, `MissingExtra` or `EngineFailed`.
    """
    scripted = spec.partition(":")[0] == "scripted"
    if adapter is not None and (base_url is not None or scripted):
        where = f"on the server at {base_url}" if base_url is not None else "by no weights"
        raise EngineFailed(
            f"the setting model.adapter is for models that PyTorch runs here, and {spec} is run {where}. Leave it out; "
            "a server loads adapters itself and gives each a name of its own, which model.name then takes."
        )
    if base_url is not None:
        from longleaf.engine.backends.openai import OpenAIEngine

        return OpenAIEngine(
            base_url,
            spec,
            api_key,
            window=window,
            timeout=timeout,
            retries=retries,
            concurrency=concurrency,
        )
    if scripted:
        from longleaf.engine.backends.scripted import ScriptedEngine

        return ScriptedEngine.from_spec(spec, window=window or 8192)
    own = store.adapter(spec)
    if adapter is not None and own is not None:
        raise EngineFailed(
            f"{spec} has an adapter of its own; set model.name to its base to use that of model.adapter ({adapter})"
        )
    path = store.get(spec, on_progress)
    name = _short_name(spec, path)
    if adapter is not None:
        name = f"{name}+{adapter.resolve().name}"
    engine = _torch_engine()
    return engine.open(
        path, name=name, adapter=adapter or own, dtype=dtype, device=device, window=window, threads=threads
    )


def _torch_engine() -> type[TorchEngine]:
    from longleaf.engine.backends.torch import TorchEngine

    return TorchEngine


def _short_name(spec: str, path: Path) -> str:
    """The spec, or the last part of a path: a card should not tell where on a disk its model lies."""
    return path.stem if Path(spec).expanduser() == path else spec
