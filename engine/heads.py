"""The attention heads of a model that find answers, as they are kept beside it.

What was measured on one model is not used for another: the fingerprint of the weights tells them apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from longleaf.engine import adapter as adapters
from longleaf.engine.catalog import default_catalog
from longleaf.engine.contract import Head
from longleaf.engine.errors import EngineFailed

FILE_NAME = "longleaf-heads.json"
_BLOCK, _BLOCKS = 4096, 64


@dataclass(frozen=True, slots=True)
class HeadScore:
    """How well one head finds answers.

    `first` is the share of questions whose sentence it looked at most, `reciprocal` the mean reciprocal rank.
    """

    layer: int
    head: int
    first: float
    reciprocal: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The heads of a model that find answers.

    `heads` come best first, each with how it did on the `tried` questions they were chosen by. `accuracy` is the
    share of `items` other questions whose sentence the heads together put first, out of `units` a page on
    average; `top_five` the same for the first five. `fingerprint` is that of the model's weights; `date` is ISO.
    """

    model: str
    fingerprint: str
    heads: tuple[HeadScore, ...]
    accuracy: float
    top_five: float
    items: int
    tried: int
    units: float
    seconds: float
    date: str


def save(calibration: Calibration, model: Path, adapter: Path | None = None) -> Path:
    """Write a calibration beside the model in `model`, a folder or a GGUF file; returns where it is.

    That of a model with an adapter lies beside the base too, since the adapter may be part of an installation.

    Raises `EngineFailed` where the folder cannot be written.
    """
    path = _file(model, adapter)
    scratch = path.with_name(f".{path.name}.new")
    try:
        scratch.write_text(json.dumps(asdict(calibration), indent=2) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise EngineFailed(
            f"the heads of {calibration.model} cannot be kept in {path.parent}: {error.strerror}. Make the folder "
            "writable, or copy the model to one that is and give its path to `longleaf models calibrate`."
        ) from error
    return path


def load(model: Path, adapter: Path | None = None) -> Calibration | None:
    """The calibration kept beside the model in `model`; None where there is none for these weights."""
    path = _file(model, adapter)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**{**data, "heads": tuple(HeadScore(**head) for head in data["heads"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logging.getLogger(__name__).warning("%s cannot be read (%s); calibrate the model again", path, error)
        return None
    if calibration.fingerprint != fingerprint(model, adapter):
        logging.getLogger(__name__).warning(
            "%s was made for other weights and is not used; run `longleaf models calibrate %s`", path, calibration.model
        )
        return None
    return calibration


def known_heads(model: Path, name: str, adapter: Path | None = None) -> tuple[Head, ...] | None:
    """The heads to ask of the model in `model`: those kept beside it, else those of the catalog entry `name`."""
    if (calibration := load(model, adapter)) is not None:
        return tuple((head.layer, head.head) for head in calibration.heads)
    entry = next((entry for entry in default_catalog() if name in (entry.name, entry.hub_id)), None)
    return entry.heads if entry is not None and entry.heads else None


def fingerprint(model: Path, adapter: Path | None = None) -> str:
    """Sixteen hex digits that change with the weights: of each file its size and 64 blocks spread over it.

    With an adapter, its own sixteen behind a plus sign.
    """
    if adapter is not None:
        return f"{fingerprint(model)}+{adapters.fingerprint(adapter)}"
    files = [model] if model.is_file() else sorted([*model.glob("*.safetensors"), *model.glob("*.bin")])
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for block in range(_BLOCKS):
                file.seek(block * max(size - _BLOCK, 0) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def _file(model: Path, adapter: Path | None) -> Path:
    name = f"{adapter.name}.{FILE_NAME}" if adapter is not None else FILE_NAME
    return model.with_suffix(f".{name}") if model.is_file() else model / name
