"""Trains a LoRA adapter for a base model on the examples that `build.py` wrote, on one GPU.

    python training/train.py --base MODEL_FOLDER --examples training/out/{reader,chat}.jsonl.xz

The result is a standard peft folder. A run that was cut off goes on with the same command: it finds its checkpoint.
`torchrun --nproc-per-node 2 training/train.py …` trains on two GPUs.
LoRA: Hu et al., 2021. Loss on the reply alone; replies are scored with the frame of the model's own chat template.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from longleaf.engine.contract import Message
from longleaf.engine.loading import load_model, load_tokenizer
from longleaf.engine.prompt import PromptForm

sys.path.insert(0, str(Path(__file__).resolve().parent))
from crew import Crew
from example import Example, read
from packing import Encoded, batches, losses, packed, packs

CHECKPOINT_SECONDS = 60.0
WEIGHTS = "adapter_model.safetensors"
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Config:
    """What a run depends on beside its data; the card of the adapter records it.

    `seconds` is how long the learning rate takes to fall to nothing, so it is also how long a run takes; with `epochs`
    0 the examples are gone through as often as the time allows. `batch_tokens` are those of a step on one GPU.
    """

    rank: int = 16
    alpha: int = 32
    rate: float = 2.5e-3
    warmup: float = 0.03
    decay: float = 0.01
    dropout: float = 0.0
    batch_tokens: int = 24576
    longest: int = 6144
    seconds: float = 420.0
    epochs: float = 0.0
    seed: int = 7
    held_out: int = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--examples", type=Path, nargs="+", default=[Path("training/out/reader.jsonl.xz")])
    parser.add_argument("--initial", type=Path, help="the adapter to go on from")
    parser.add_argument("--out", type=Path, default=Path("training/out/reader"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--name", help="name of the base model in the adapter's card, where others find it")
    parser.add_argument("--eager", action="store_true", help="do not compile, for a GPU where that fails")
    parser.add_argument("--most", type=int, help="use so many examples only")
    for name, value in asdict(Config()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    chosen = vars(parser.parse_args())
    given = {name: chosen.pop(name) for name in asdict(Config())}
    run(Config(**given), **chosen)


def run(
    config: Config,
    base: Path,
    examples: Sequence[Path],
    out: Path,
    device: str,
    initial: Path | None = None,
    name: str | None = None,
    most: int | None = None,
    eager: bool = False,
) -> None:
    """Train, check the adapter against the merged weights, and write both adapter and card."""
    from peft.helpers import disable_input_dtype_casting

    if config.batch_tokens < config.longest:
        raise SystemExit(f"--batch-tokens {config.batch_tokens} hold no example of --longest {config.longest} tokens")
    torch.manual_seed(config.seed)
    began = time.perf_counter()
    # Before the GPU is touched, for processes are forked.
    rows = together([item for file in examples for item in read(file)][:most], base)
    crew = Crew.join(device)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    network = adapted(load_model(base, dtype, device), config, initial)
    model = network.get_base_model()
    held, rows = parted([row for row in rows if len(row.ids) <= config.longest], config)
    if device.startswith("cuda") and not eager:
        for layer in model.model.layers:
            layer.compile()  # one by one: all layers share what is compiled
    # Autocast casts what goes into the adapter; peft would take it to float32 and back first.
    with packs(model, config.longest), disable_input_dtype_casting(network, device.startswith("cuda")):
        before = loss_by_task(model, held, config, device)
        if crew.leads:
            tokens = sum(len(row.ids) for row in rows) / 1e6
            print(f"{len(rows)} examples, {tokens:.1f}M tokens; {len(held)} held out", flush=True)
            print(f"ready after {time.perf_counter() - began:.0f} s; held-out loss {before['all']:.3f}", flush=True)
        steps, seconds = train(network, rows, config, device, out, crew)
        after = loss_by_task(model, held, config, device)
    crew.leave()
    if not crew.leads:
        return
    network.eval()
    out.mkdir(parents=True, exist_ok=True)
    save(network, out, name or base.name)
    error = merged_error(base, out, (held or rows)[0].ids, device)
    card = {
        "base": name or base.name,
        "base_weights": digest(weights_of(base)),
        "examples": {file.name: digest([file]) for file in examples},
        "used": len(rows),
        "initial": None if initial is None else digest([initial / WEIGHTS]),
        "config": asdict(config),
        "processes": crew.size,
        "steps": steps,
        "seconds": round(seconds),
        "device": torch.cuda.get_device_name(0) if device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "held_out_loss": {"before": before, "after": after},
        "merged_against_adapter": error,
    }
    (out / "training.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (out / "checkpoint.pt").unlink(missing_ok=True)
    print(json.dumps(card["held_out_loss"], indent=1))
    print(f"merged against base and adapter: relative difference of logits {error:.1e}")
    print(f"{steps} steps in {seconds:.0f} s; {time.perf_counter() - began:.0f} s in all; adapter in {out}")


def adapted(model: Any, config: Config, initial: Path | None) -> Any:
    """The model with an adapter to train: a new one, or that of the folder `initial`."""
    from peft import LoraConfig, PeftModel, get_peft_model

    if initial is not None:
        network = PeftModel.from_pretrained(model, str(initial), is_trainable=True)
    else:
        network = get_peft_model(
            model,
            LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=list(MODULES),
                task_type="CAUSAL_LM",
            ),
        )
    return network.train()


def together(examples: Sequence[Example], base: Path) -> list[Encoded]:
    """Token ids of many examples, by several processes."""
    workers = min(8, os.cpu_count() or 1)
    slices = [examples[first::workers] for first in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        return [row for rows in pool.map(encoded, slices, [base] * workers) for row in rows]


def encoded(examples: Sequence[Example], base: Path) -> list[Encoded]:
    """Token ids as the engine would make them, with the reply and the end of the turn behind."""
    tokenizer = load_tokenizer(base)
    form, end = PromptForm(tokenizer), end_of(tokenizer)
    rows: list[Encoded] = []
    for item in examples:
        if item.task == "text":
            rows.append(Encoded(item.task, item.about, tuple(form.content(item.reply)), 1))
            continue
        messages = [Message("system", item.system)] if item.system else []
        prompt = form.encode([*messages, Message("user", item.user)], item.prefix).ids
        rows.append(Encoded(item.task, item.about, (*prompt, *form.content(item.reply), end), len(prompt)))
    return rows


def parted(rows: Sequence[Encoded], config: Config) -> tuple[list[Encoded], list[Encoded]]:
    """Examples to hold out, and those to learn: no question is among both."""
    order = list(rows)
    random.Random(config.seed).shuffle(order)
    held = order[: config.held_out]
    asked = {row.about for row in held if row.about}
    return held, [row for row in order[config.held_out :] if row.about not in asked]


def train(
    network: Any, rows: Sequence[Encoded], config: Config, device: str, out: Path, crew: Crew
) -> tuple[int, float]:
    """Go through the examples until the time or the epochs are over; returns steps and seconds."""
    model = network.get_base_model()
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    fused = device.startswith("cuda")
    optimizer = torch.optim.AdamW(learned, lr=config.rate, weight_decay=config.decay, betas=(0.9, 0.98), fused=fused)
    step, spent, last = _resume(network, optimizer, out)
    began = time.perf_counter() - spent
    recent: list[float] = []
    groups = islice(batches(rows, config.batch_tokens, config.seed), crew.rank, None, crew.size)
    for _ in range(step):
        next(groups)
    share = spent / config.seconds
    for done, batch in groups:
        if share >= 1.0:
            break
        warm = min(1.0, share / config.warmup) if config.warmup else 1.0
        for group in optimizer.param_groups:
            group["lr"] = config.rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        row = packed(batch, config.batch_tokens, config.longest).to(device)
        weights = row.weights
        loss = (losses(model, row) * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - began
        crew.average(learned)
        if step % 8 == 0:  # all must stop at one step, and asking waits for the GPU
            share = crew.agree(max(seconds / config.seconds, done / config.epochs if config.epochs else 0.0))
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.detach())  # type: ignore[arg-type]
        step += 1
        if step % 50 == 0 and crew.leads:
            print(
                f"step {step}, epoch {done:.2f}, loss {float(sum(recent)) / len(recent):.3f}, {seconds:.0f} s",
                flush=True,
            )
        if len(recent) == 50:
            recent.clear()
        if seconds - last > CHECKPOINT_SECONDS and crew.leads:
            last = seconds
            _keep(network, optimizer, step, seconds, out)
    return step, time.perf_counter() - began


def loss_by_task(model: Any, rows: Sequence[Encoded], config: Config, device: str) -> dict[str, float]:
    """Mean loss of a reply's token over held-out examples, by task and over all."""
    sums: dict[str, list[float]] = defaultdict(list)
    for done, batch in batches(rows, config.batch_tokens, config.seed):
        if done >= 1.0:
            break
        row = packed(batch, config.batch_tokens, config.longest).to(device)
        # With gradients, though none is wanted: compiled once, the same layers serve training.
        found = losses(model, row).detach().split([len(item.ids) - item.asked for item in batch])
        for item, loss in zip(batch, found, strict=True):
            sums[item.task].append(float(loss.mean()))
            sums["all"].append(float(loss.mean()))
    return {task: round(sum(values) / len(values), 4) for task, values in sorted(sums.items())}


def merged_error(base: Path, adapter: Path, ids: Sequence[int], device: str) -> float:
    """How far the logits of the merged weights are from those of base and adapter: the relative norm, in float32."""
    from peft import PeftModel

    tokens = torch.tensor([list(ids)], device=device)
    with torch.no_grad():
        fresh = PeftModel.from_pretrained(load_model(base, torch.float32, device), str(adapter))
        apart = fresh(input_ids=tokens).logits
        together = fresh.merge_and_unload()(input_ids=tokens).logits
    return float((apart - together).norm() / apart.norm())


def end_of(tokenizer: Any) -> int:
    """The token that ends a turn."""
    found = tokenizer.convert_tokens_to_ids("<|im_end|>")
    unknown = found is None or found == tokenizer.unk_token_id
    return int(tokenizer.eos_token_id if unknown else found)


def save(network: Any, folder: Path, base: str, adapter: str = "default", dtype: torch.dtype = torch.bfloat16) -> None:
    """One adapter of a network, in peft's own form."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(network, adapter_name=adapter)
    weights = {name: weight.to(dtype).contiguous() for name, weight in state.items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    config = network.peft_config[adapter]
    config.inference_mode = True
    config.save_pretrained(str(folder))
    file = folder / "adapter_config.json"
    told = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    file.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _keep(network: Any, optimizer: Any, step: int, seconds: float, out: Path) -> None:
    from peft import get_peft_model_state_dict

    out.mkdir(parents=True, exist_ok=True)
    state = {"adapter": get_peft_model_state_dict(network), "optimizer": optimizer.state_dict()}
    scratch = out / ".checkpoint.new"
    torch.save(state | {"step": step, "seconds": seconds}, scratch)
    scratch.replace(out / "checkpoint.pt")


def _resume(network: Any, optimizer: Any, out: Path) -> tuple[int, float, float]:
    from peft import set_peft_model_state_dict

    file = out / "checkpoint.pt"
    if not file.exists():
        return 0, 0.0, 0.0
    state = torch.load(file, map_location="cpu", weights_only=True)
    set_peft_model_state_dict(network, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"going on from step {state['step']}, {state['seconds']:.0f} s", flush=True)
    return int(state["step"]), float(state["seconds"]), float(state["seconds"])


def weights_of(base: Path) -> list[Path]:
    """The files of a model's weights, in order."""
    return sorted(base.glob("*.safetensors"))


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of files, one behind another."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
