"""Trains a LoRA adapter for a base model on the examples that `build.py` wrote, on one GPU.

    python training/train.py --base MODEL_FOLDER --examples training/out/broad.jsonl.xz --out training/out/broad
    python training/train.py --base MODEL_FOLDER --examples training/out/short.jsonl.xz --initial training/out/broad

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
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from longleaf.engine.contract import Message
from longleaf.engine.loading import load_model, load_tokenizer
from longleaf.engine.prompt import PromptForm

sys.path.insert(0, str(Path(__file__).resolve().parent))
from crew import Crew
from example import Example, read

IGNORED = -100
CHECKPOINT_SECONDS = 60.0
WEIGHTS = "adapter_model.safetensors"
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Config:
    """What a run depends on beside its data; the card of the adapter records it.

    `seconds` is how long the learning rate takes to fall to nothing, so it is also how long a run takes; with `epochs`
    0 the examples are gone through as often as the time allows. `batch_tokens` counts padding.
    """

    rank: int = 16
    alpha: int = 32
    rate: float = 1.2e-3
    warmup: float = 0.03
    decay: float = 0.01
    dropout: float = 0.0
    batch_tokens: int = 24576
    longest: int = 6144
    seconds: float = 420.0
    epochs: float = 0.0
    seed: int = 7
    held_out: int = 400


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of an example; the first `asked` are not learned."""

    task: str
    ids: tuple[int, ...]
    asked: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--examples", type=Path, default=Path("training/out/broad.jsonl.xz"))
    parser.add_argument("--initial", type=Path, help="the adapter to go on from")
    parser.add_argument("--out", type=Path, default=Path("training/out/adapter"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--name", help="name of the base model in the adapter's card, where others find it")
    parser.add_argument("--most", type=int, help="use so many examples only")
    for name, value in asdict(Config()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    chosen = vars(parser.parse_args())
    given = {name: chosen.pop(name) for name in asdict(Config())}
    run(Config(**given), **chosen)


def run(
    config: Config,
    base: Path,
    examples: Path,
    out: Path,
    device: str,
    initial: Path | None = None,
    name: str | None = None,
    most: int | None = None,
) -> None:
    """Train, check the adapter against the merged weights, and write both adapter and card."""
    torch.manual_seed(config.seed)
    began = time.perf_counter()
    rows = together(list(read(examples))[:most], base)  # before the GPU is touched: processes are forked
    crew = Crew.join(device)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    network = adapted(load_model(base, dtype, device), config, initial)
    rows = [row for row in rows if len(row.ids) <= config.longest]
    random.Random(config.seed).shuffle(rows)
    held, rows = rows[: config.held_out], rows[config.held_out :]
    before = {}
    if crew.leads:
        tokens = sum(len(row.ids) for row in rows) / 1e6
        print(f"{len(rows)} examples, {tokens:.1f}M tokens; {len(held)} held out", flush=True)
        before = loss_by_task(network, held, config, device)
        print(f"ready after {time.perf_counter() - began:.0f} s; held-out loss {before['all']:.3f}", flush=True)
    steps, seconds = train(network, rows, config, device, out, crew)
    crew.leave()
    if not crew.leads:
        return
    after = loss_by_task(network, held, config, device)
    network.eval()
    out.mkdir(parents=True, exist_ok=True)
    _save(network, out, name or base.name)
    error = merged_error(base, out, network, held[0].ids, device)
    card = {
        "base": name or base.name,
        "base_weights": _digest(base),
        "examples": {
            "file": examples.name,
            "sha256": hashlib.sha256(examples.read_bytes()).hexdigest(),
            "used": len(rows),
        },
        "initial": None if initial is None else hashlib.sha256((initial / WEIGHTS).read_bytes()).hexdigest(),
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
            rows.append(Encoded(item.task, tuple(form.content(item.reply)), 1))
            continue
        messages = [Message("system", item.system)] if item.system else []
        prompt = form.encode([*messages, Message("user", item.user)], item.prefix).ids
        rows.append(Encoded(item.task, (*prompt, *form.content(item.reply), end), len(prompt)))
    return rows


def train(
    network: Any, rows: Sequence[Encoded], config: Config, device: str, out: Path, crew: Crew
) -> tuple[int, float]:
    """Go through the examples until the time or the epochs are over; returns steps and seconds."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    fused = device.startswith("cuda")
    optimizer = torch.optim.AdamW(learned, lr=config.rate, weight_decay=config.decay, betas=(0.9, 0.98), fused=fused)
    step, spent, last = _resume(network, optimizer, out)
    began = time.perf_counter() - spent
    recent: list[float] = []
    batches = islice(_batches(rows, config), crew.rank, None, crew.size)
    for _ in range(step):
        next(batches)
    share = spent / config.seconds
    for done, batch in batches:
        if share >= 1.0:
            break
        warm = min(1.0, share / config.warmup) if config.warmup else 1.0
        for group in optimizer.param_groups:
            group["lr"] = config.rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        loss = _loss(network, batch, device)
        loss.backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - began
        # All stop at one step: how far they are is agreed on with the gradients.
        share = crew.agree(learned, max(seconds / config.seconds, done / config.epochs if config.epochs else 0.0))
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


def loss_by_task(network: Any, rows: Sequence[Encoded], config: Config, device: str) -> dict[str, float]:
    """Mean loss of a reply's token over held-out examples, by task and over all."""
    sums: dict[str, list[float]] = defaultdict(list)
    with torch.no_grad():
        for row in rows:
            value = float(_loss(network, [row], device))
            sums[row.task].append(value)
            sums["all"].append(value)
    return {task: round(sum(values) / len(values), 4) for task, values in sorted(sums.items())}


def merged_error(base: Path, adapter: Path, network: Any, ids: Sequence[int], device: str) -> float:
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


def _loss(network: Any, batch: Sequence[Encoded], device: str) -> torch.Tensor:
    """Mean loss of the batch's learned tokens. Rows are padded at the right, so a causal model needs no mask."""
    longest = max(len(row.ids) for row in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    wanted = torch.full((len(batch), longest), IGNORED)
    for place, row in enumerate(batch):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        wanted[place, row.asked : len(row.ids)] = torch.tensor(row.ids[row.asked :])
    ids, wanted = ids.to(device, non_blocking=True), wanted[:, 1:].to(device, non_blocking=True)
    inner = network.get_base_model()
    with torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16, enabled=device.startswith("cuda")):
        hidden = inner.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        learned = wanted != IGNORED  # only there are logits worked out: the vocabulary is most of a small model
        return functional.cross_entropy(inner.lm_head(hidden[learned]).float(), wanted[learned])


def _batches(rows: Sequence[Encoded], config: Config) -> Iterator[tuple[float, list[Encoded]]]:
    """Batches of like length, again and again, each with the epochs gone by before it."""
    draw = random.Random(config.seed)
    epoch = 0
    while True:
        order = list(rows)
        draw.shuffle(order)
        batches: list[list[Encoded]] = []
        for first in range(0, len(order), 4096):
            batch: list[Encoded] = []
            for row in sorted(order[first : first + 4096], key=lambda row: len(row.ids)):
                if batch and len(row.ids) * (len(batch) + 1) > config.batch_tokens:
                    batches.append(batch)
                    batch = []
                batch.append(row)
            batches.append(batch)
        draw.shuffle(batches)
        for place, batch in enumerate(batches):
            yield epoch + place / len(batches), batch
        epoch += 1


def _save(network: Any, folder: Path, base: str) -> None:
    """The adapter in bfloat16, in peft's own form."""
    from safetensors.torch import load_file, save_file

    network.save_pretrained(str(folder))
    file = folder / WEIGHTS
    save_file({name: weight.to(torch.bfloat16) for name, weight in load_file(file).items()}, file, {"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


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


def _digest(base: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(base.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
