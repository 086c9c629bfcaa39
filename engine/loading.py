"""Reads a causal language model and its tokenizer from a folder or a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from longleaf.engine.errors import EngineFailed, ModelNotFound


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a model folder or GGUF file.

    Raises `ModelNotFound` where `path` holds no model, `EngineFailed` where its tokenizer cannot be read.
    """
    from transformers import AutoTokenizer

    folder, extra = _location(path)
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(folder, **extra)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise EngineFailed(f"the tokenizer of {path} cannot be read: {_first_line(error)}") from error


def load_config(path: Path) -> Any:
    """The configuration of a model folder or GGUF file; raises as `load_tokenizer` does."""
    from transformers import AutoConfig

    folder, extra = _location(path)
    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(folder, **extra)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise EngineFailed(f"the configuration of {path} cannot be read: {_first_line(error)}") from error


def load_model(path: Path, dtype: Any, device: str) -> Any:
    """The causal language model of a folder or GGUF file, in `dtype` on `device`, ready for inference.

    A GGUF file is unpacked to dense weights. Raises `ModelNotFound` or `EngineFailed` as `load_tokenizer`
    does.
    """
    from transformers import AutoModelForCausalLM

    folder, extra = _location(path)
    if extra:
        extra |= _dense_gguf()
    with quiet_transformers():
        try:
            # The GGUF reader draws a progress bar that cannot be turned off otherwise.
            with redirect_stderr(StringIO()) if extra else nullcontext():
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **extra)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise EngineFailed(
                f"the model in {path} cannot be loaded: {_first_line(error)}. It must be a causal language "
                "model that transformers reads, as a safetensors folder or a GGUF file."
            ) from error
    return model.eval().requires_grad_(False).to(device)


def _location(path: Path) -> tuple[Path, dict[str, Any]]:
    if path.is_file() and path.suffix == ".gguf":
        return path.parent, {"gguf_file": path.name}
    if (path / "config.json").is_file():
        return path, {}
    raise ModelNotFound(
        f"{path} is no model: expected a folder with config.json and safetensors files, or a .gguf file"
    )


def _dense_gguf() -> dict[str, Any]:
    import transformers

    # Newer versions keep GGUF weights packed unless told otherwise, and have this class to tell them.
    config = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if config else {}


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' progress bars and notes off the terminal while a model loads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
