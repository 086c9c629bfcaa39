"""Turns a GGUF file into a safetensors folder, once, so that later starts take seconds.

Loading a GGUF file takes transformers 20 to 60 seconds on two cores, most of it unpacking; the folder loads
in two.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from longleaf.engine.errors import MissingExtra
from longleaf.engine.loading import load_model, load_tokenizer, quiet_transformers


def convert(gguf: Path, target: Path, on_progress: Callable[[str], None]) -> None:
    """Write the model and tokenizer of `gguf` to the folder `target`, weights in bfloat16.

    Raises `MissingExtra` where the packages that read GGUF are not installed, `EngineFailed` where the file
    is bad.
    """
    import torch
    from transformers import AutoModelForCausalLM

    _require_readers()
    on_progress(f"unpacking {gguf.name} (once, 20 to 60 seconds)")
    tokenizer = load_tokenizer(gguf)
    packed = load_model(gguf, torch.float32, "cpu")
    config = packed.config
    # A model that came from GGUF refuses to be saved; a fresh one with the same weights does not.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    on_progress("writing the weights as safetensors")
    with quiet_transformers():
        dense = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        dense.load_state_dict(packed.state_dict())
        dense.tie_weights()
        dense.generation_config = packed.generation_config
        dense.save_pretrained(target)
        tokenizer.save_pretrained(target)
    for weights in target.glob("*.safetensors"):
        # safetensors makes its files readable by their owner only, unlike the rest of the folder.
        shutil.copymode(target / "config.json", weights)


def _require_readers() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise MissingExtra(f"reading a GGUF file needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")
