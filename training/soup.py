"""Averages adapters of one base into one of the same size.

    python training/soup.py --base MODEL_FOLDER --adapters FIRST SECOND --out training/out/soup

The weights of models that were trained from one start and differ in their data and rates can be averaged, and the mean
often answers better than any of them: "Model soups", Wortsman et al., 2022 (arXiv:2203.05482). The mean of low-rank
adapters has the sum of their ranks; it is cut to `--rank` by its singular values and kept in eight bits a number, which
loses less than half the rank in sixteen.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from longleaf.engine.loading import load_model

sys.path.insert(0, str(Path(__file__).resolve().parent))
from train import WEIGHTS, digest, merged_error, save, weights_of

RANK = 38
"""The largest that keeps the adapter of SmolLM2-135M below 12 MB."""

_MOST = 256.0
"""To which the numbers of an adapter may grow before they are cut to eight bits, which end at 448."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--adapters", type=Path, nargs="+", required=True, help="folders, as train.py writes them")
    parser.add_argument("--weights", type=float, nargs="+", help="how much of each [equal shares]")
    parser.add_argument("--rank", type=int, default=RANK, help=f"[{RANK}]")
    parser.add_argument("--out", type=Path, default=Path("training/out/soup"))
    parser.add_argument("--name", help="name of the base model in the adapter's card, where others find it")
    chosen = parser.parse_args()
    run(**vars(chosen))


def run(
    base: Path,
    adapters: Sequence[Path],
    out: Path,
    rank: int = RANK,
    weights: Sequence[float] | None = None,
    name: str | None = None,
) -> None:
    """Write the weighted sum of `adapters` at `rank`, and beside it what it was made of."""
    from peft import PeftModel

    shares = list(weights or [1 / len(adapters)] * len(adapters))
    if len(shares) != len(adapters):
        raise SystemExit(f"--weights has {len(shares)} numbers for {len(adapters)} adapters")
    names = [f"part{number}" for number in range(len(adapters))]
    network = PeftModel.from_pretrained(load_model(base, torch.float32, "cpu"), str(adapters[0]), names[0])
    for folder, other in zip(adapters[1:], names[1:], strict=True):
        network.load_adapter(str(folder), other)
    network.add_weighted_adapter(names, shares, "soup", combination_type="svd", svd_rank=rank, svd_full_matrices=False)
    spread(network, "soup")
    out.mkdir(parents=True, exist_ok=True)
    save(network, out, name or base.name, "soup", torch.float8_e4m3fn)
    parts = [{"weight": share} | _card(folder) for folder, share in zip(adapters, shares, strict=True)]
    error = merged_error(base, out, range(3, 67), "cpu")
    card = {
        "base": name or base.name,
        "base_weights": digest(weights_of(base)),
        "rank": rank,
        "parts": parts,
        "merged_against_adapter": error,
    }
    (out / "training.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(f"merged against base and adapter: relative difference of logits {error:.1e}; adapter in {out}")


@torch.no_grad()
def spread(network: Any, adapter: str) -> None:
    """Scale an adapter's pairs so that eight-bit floats hold them well; what they add to the base stays the same.

    E4M3 reaches from 2^-6 to 448 with three bits of fraction (Micikevicius et al., 2022, arXiv:2209.05433). The two
    factors of each rank get one norm, and all grow by one power of two, which alpha takes back.
    """
    layers = [layer for layer in network.modules() if adapter in getattr(layer, "lora_A", ())]
    pairs = [(layer.lora_A[adapter].weight, layer.lora_B[adapter].weight) for layer in layers]
    for a, b in pairs:
        above, below = a.norm(dim=1, keepdim=True), b.norm(dim=0, keepdim=True)
        shared = (above * below.T).sqrt()
        a.mul_(shared / above.clamp(min=1e-30))
        b.mul_(shared.T / below.clamp(min=1e-30))
    most = max(float(weight.abs().max()) for pair in pairs for weight in pair)
    gain = 2.0 ** math.floor(math.log2(_MOST / most))
    for pair in pairs:
        for weight in pair:
            weight.mul_(gain)
    network.peft_config[adapter].lora_alpha /= gain**2


def _card(folder: Path) -> dict[str, Any]:
    """An adapter's SHA-256, and what `train.py` recorded of it; None where it is another's."""
    file = folder / "training.json"
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return {"sha256": digest([folder / WEIGHTS]), "training": told}


if __name__ == "__main__":
    main()
