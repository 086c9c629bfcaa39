"""Low-rank adapters (LoRA; Hu et al., 2021, arXiv:2106.09685), read as `peft` keeps them and merged into their base.

A folder holds `adapter_config.json` and `adapter_model.safetensors`; its `README.md` is the adapter's card and may say
which base it was trained on, as `base_fingerprint: 0123456789abcdef` in the YAML at its top, and that it was trained to
say where a text does not answer, as `abstains: true`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longleaf.engine.errors import EngineFailed, ModelNotFound

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"

_PAIR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_ABSTAINS = re.compile(r"^abstains:\s*true\b", re.MULTILINE)
_FINGERPRINT = re.compile(r"^base_fingerprint:\s*['\"]?([0-9a-f]{16})\b", re.MULTILINE)

# What peft can do to a base besides adding a product of two matrices, by the field of its configuration.
_UNREAD = {
    "use_dora": "DoRA",
    "modules_to_save": "whole layers beside the low-rank pairs (modules_to_save)",
    "lora_bias": "biases in its pairs (lora_bias)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "layer_replication": "layer replication",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "target_parameters": "parameters of expert layers (target_parameters)",
    "alora_invocation_tokens": "activation by tokens (aLoRA)",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal pairs (BD-LoRA)",
    "arrow_config": "routing between adapters (Arrow)",
    "kasa_config": "KaSA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
}
# Ways to begin the training that leave the base as it is; others change it, and its weights are then not the base's.
_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a folder says of its adapter.

    `base` is the name of the model it was trained on and `base_fingerprint` that of `fingerprint_of_base`, empty where
    the folder does not say. `ranks` and `alphas` hold for layers whose name ends in a match of their key. `targets` are
    the ends of the names of all adapted layers, or one regular expression for whole names; None where it is not said.
    `abstains` says that it was trained to quote nothing, or to say so, where a text does not answer.
    """

    folder: Path
    base: str
    base_fingerprint: str
    rank: int
    alpha: float
    rank_stabilised: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: tuple[str, ...] | str | None
    abstains: bool = False

    def rank_of(self, layer: str) -> int:
        """The rank of a layer's pair."""
        return next((rank for key, rank in self.ranks.items() if _ends_in(layer, key)), self.rank)

    def scale(self, layer: str) -> float:
        """What a layer's product is multiplied with: alpha / rank, or alpha / sqrt(rank) (arXiv:2312.03732)."""
        rank = self.rank_of(layer)
        alpha = next((alpha for key, alpha in self.alphas.items() if _ends_in(layer, key)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)

    def adapts(self, layer: str) -> bool:
        """Whether the configuration says that a layer is adapted."""
        if isinstance(self.targets, str):
            return re.fullmatch(self.targets, layer) is not None
        return any(layer == target or layer.endswith(f".{target}") for target in self.targets or ())


def read(folder: Path) -> Adapter:
    """The adapter in `folder`.

    Raises `ModelNotFound` where there is none, `EngineFailed` where its configuration cannot be read or asks for more
    than pairs of matrices added to linear layers.
    """
    if missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]:
        raise ModelNotFound(
            f"{folder} is no adapter: {' and '.join(missing)} not found there. An adapter is a folder as peft saves "
            f"it, with {CONFIG} and {WEIGHTS}."
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        _refuse_what_is_not_read(config, folder)
        targets, partly = config.get("target_modules"), ("exclude_modules", "layers_to_transform", "layers_pattern")
        if isinstance(targets, list):
            targets = tuple(targets)
        return Adapter(
            folder=folder,
            base=config.get("base_model_name_or_path") or "",
            base_fingerprint=_recorded_fingerprint(folder),
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            rank_stabilised=bool(config.get("use_rslora")),
            ranks={key: int(rank) for key, rank in (config.get("rank_pattern") or {}).items()},
            alphas={key: float(alpha) for key, alpha in (config.get("alpha_pattern") or {}).items()},
            targets=None if any(config.get(name) for name in partly) else targets,
            abstains=_ABSTAINS.search(_card(folder)) is not None,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineFailed(f"{folder / CONFIG} cannot be read as a configuration of peft: {error!r}") from error


def merge(adapter: Adapter, model: Any) -> None:
    """Add an adapter to the weights of a transformers model, in place: W + scale * B @ A, summed in float32.

    W is `[out, in]`, A `[rank, in]`, B `[out, rank]`. Everything is checked before a weight is changed. Raises
    `EngineFailed` where the weights cannot be read, the base is another one, or a tensor and a layer do not meet.
    """
    import torch

    _check_base(adapter, model)
    pairs = _pairs(adapter)
    layers = dict(model.named_modules())
    for name, (a, b) in pairs.items():
        weight = getattr(layers.get(name), "weight", None)
        if weight is None:
            raise _unfit(adapter, f"the base has no layer {name}")
        rank = adapter.rank_of(name)
        if a.shape != (rank, weight.shape[-1]) or b.shape != (weight.shape[0], rank):
            raise _unfit(
                adapter,
                f"the pair of {name} is {list(b.shape)} by {list(a.shape)} at rank {rank}, its weight "
                f"{list(weight.shape)}",
            )
    if bare := [name for name in layers if adapter.adapts(name) and name not in pairs]:
        raise _unfit(adapter, f"its {CONFIG} names {len(bare)} layers that {WEIGHTS} has nothing for, first {bare[0]}")
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            weight = layers[name].weight
            product = b.to(weight.device, torch.float32) @ a.to(weight.device, torch.float32)
            weight.copy_(weight.float() + adapter.scale(name) * product)


def fingerprint(folder: Path) -> str:
    """Sixteen hex digits that change with an adapter: with its weights and its configuration."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def fingerprint_of_base(model: Any) -> str:
    """Sixteen hex digits that tell models apart, and are the same for one model however it is stored.

    They come from its parameters of one dimension, norms and biases, in bfloat16: GGUF files keep these whole where
    they pack the matrices. Two fine-tunes that left all of these alone cannot be told apart.
    """
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 1:
            values = parameter.detach().to("cpu", torch.bfloat16).view(torch.int16)
            digest.update(f"{name} {len(values)}\n".encode())
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def _ends_in(layer: str, pattern: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", layer) is not None


def _refuse_what_is_not_read(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("peft_type")
    found = [what for name, what in _UNREAD.items() if config.get(name)]
    if kind != "LORA":
        found.append(f"the kind {kind}")
    if config.get("bias", "none") != "none":
        found.append(f"trained biases (bias: {config['bias']})")
    if config.get("init_lora_weights") not in _BEGINNINGS:
        found.append(f"a base that was changed before training (init_lora_weights: {config['init_lora_weights']})")
    if found:
        raise EngineFailed(
            f"the adapter in {folder} uses {', '.join(found)}; Longleaf merges plain LoRA. Merge it into its base with "
            "peft (merge_and_unload) and give the folder of the result as model.name."
        )


def _card(folder: Path) -> str:
    card = folder / CARD
    return card.read_text(encoding="utf-8") if card.is_file() else ""


def _recorded_fingerprint(folder: Path) -> str:
    found = _FINGERPRINT.search(_card(folder))
    return found.group(1) if found else ""


def _check_base(adapter: Adapter, model: Any) -> None:
    if adapter.base_fingerprint and adapter.base_fingerprint != (here := fingerprint_of_base(model)):
        raise _unfit(
            adapter, f"it was trained on weights with the fingerprint {adapter.base_fingerprint}, and these have {here}"
        )


def _pairs(adapter: Adapter) -> dict[str, tuple[Any, Any]]:
    """A and B of each layer, by its name."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = adapter.folder / WEIGHTS
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise EngineFailed(
            f"{path} cannot be read ({error}); it is damaged or was cut short. Copy the adapter again; where it is "
            "Longleaf's own, reinstall Longleaf."
        ) from error
    sides: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        found = _PAIR.fullmatch(name)
        if found is None:
            raise EngineFailed(f"{path} holds {name}, which is no part of a LoRA pair of a linear layer")
        sides.setdefault(found["layer"], {})[found["side"]] = tensor
    if not sides:
        raise EngineFailed(f"{path} holds no tensors")
    if halves := [layer for layer, pair in sides.items() if len(pair) < 2]:
        raise EngineFailed(f"{path} holds only half of the pair of {halves[0]}; copy the adapter again")
    return {layer: (pair["A"], pair["B"]) for layer, pair in sides.items()}


def _unfit(adapter: Adapter, why: str) -> EngineFailed:
    told = f" It names {adapter.base} as its base." if adapter.base else ""
    return EngineFailed(
        f"the adapter in {adapter.folder} does not fit this model: {why}.{told} Set model.name to the adapter's base, "
        "or model.adapter to an adapter of this model."
    )
