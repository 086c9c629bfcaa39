"""Needles that a trained model still finds on a GPU when prompts and replies read little."""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

import torch
from gpu_prefill import DENSE, LAST, Prompt, compute, new_prompt, sparse_prompt
from gpu_report import BF16, CARD, Report, release
from transformers import AutoModelForCausalLM, AutoTokenizer

from longleaf.engine.attention.graph import DecodeStep
from longleaf.engine.attention.triton.append import Kind
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.layers import PagedLayer
from longleaf.engine.attention.triton.retrieve import Retriever

FILLER = (
    "The road along the river was quiet that morning, and the market had not opened yet.",
    "Several boats lay at the quay, and a clerk counted the barrels as they were rolled ashore.",
    "In the afternoon the wind turned to the north and the fields lost their colour.",
    "A letter from the capital had arrived the week before, but nobody spoke of it.",
    "The mill stood where the two streams met, and its wheel could be heard from the square.",
)


def needle_prompt(tokenizer: Any, tokens: int, depth: float, draw: random.Random) -> tuple[list[int], str]:
    code = str(draw.randint(10000, 99999))
    name = draw.choice(("Marlow", "Verity", "Hensley", "Tamsin", "Corwin"))
    needle = tokenizer.encode(f" The secret code of {name} is {code}.", add_special_tokens=False)
    ask = tokenizer.encode(
        f"\n\nQuestion: What is the secret code of {name}?\nAnswer: The secret code of {name} is",
        add_special_tokens=False,
    )
    room = tokens - len(needle) - len(ask)
    hay: list[int] = []
    while len(hay) < room:
        hay += tokenizer.encode(" " + draw.choice(FILLER), add_special_tokens=False)
    place = int(depth * room)
    return hay[:place] + needle + hay[place:room] + ask, code


def quality(report: Report, options: argparse.Namespace) -> None:
    if not options.model:
        print("quality is left out: it needs --model FOLDER", flush=True)
        return
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=BF16).to(CARD).eval()
    config = model.config
    if getattr(config, "head_dim", None) is None:
        config.head_dim = config.hidden_size // config.num_attention_heads
    decode_budget = 512
    step = DecodeStep(model, 1, compiled=None)

    def dense(held: Prompt, layer: int, query: torch.Tensor, end: int) -> torch.Tensor:
        return DENSE["ours"](query, held.keys[layer][:, :, :end], held.values[layer][:, :, :end])

    # All that a prompt of 8,000 tokens holds are 63 blocks: 64 are the default, and dense at these lengths.
    prefills = {
        "dense": dense,
        "8 blocks": sparse_prompt(8, 128),
        "8 blocks, exact end": sparse_prompt(8, 128, LAST),
        "16 blocks, exact end": sparse_prompt(16, 128, LAST),
        "64 blocks, exact end": sparse_prompt(64, 128, LAST),
    }
    decodes: dict[str, tuple[int, Kind] | None] = {
        "dense": None,
        "means, page 64": (64, "mean"),
        "means, page 32": (32, "mean"),
        "minmax, page 32": (32, "minmax"),
    }
    window = int(config.max_position_embeddings)
    right: dict[tuple[str, str], list[bool]] = {}
    densities: dict[str, list[float]] = {}
    for tokens in (min(int(text), window - 100) for text in options.needle_tokens.split(",")):
        prompt = new_prompt(config, tokens + 64, None)
        found: dict[tuple[str, str], int] = {}
        for trial in range(options.trials):
            ids, code = needle_prompt(tokenizer, tokens, (trial + 0.5) / options.trials, random.Random(trial))
            for filled, attend in prefills.items():
                prompt.attend = attend
                logits = compute(model, prompt, torch.tensor([ids], device=CARD), 2048)
                if prompt.pairs:
                    densities.setdefault(filled, []).append(float(sum(prompt.pairs)) / (len(ids) * (len(ids) + 1) / 2))
                for read, chosen in decodes.items():
                    if filled != "dense" and read not in ("dense", "means, page 64"):
                        continue
                    page, kind = chosen or (64, "mean")
                    retriever = Retriever(decode_budget // page, kind=kind) if chosen else None
                    layers = _paged_layers(prompt, len(ids), page, retriever)
                    step.use(layers, len(ids) + 64)
                    step.begin([int(logits[0, -1].argmax())], [len(ids)])
                    generated = [int(logits[0, -1].argmax()), *step.run(8)[0].tolist()]
                    ok = code in tokenizer.decode(generated)
                    found[filled, read] = found.get((filled, read), 0) + ok
                    right.setdefault((filled, read), []).append(ok)
        for (filled, read), count in found.items():
            report.add(
                "needles found, trained model",
                tokens=tokens,
                prefill=filled,
                decode=read,
                found=count,
                of=options.trials,
            )
        del prompt
        release()
    for (filled, read), answers in right.items():
        report.add("needles found, all lengths", prefill=filled, decode=read, share=sum(answers) / len(answers))
    report.note(
        prefill_density={name: statistics.mean(found) for name, found in densities.items()},
        model=str(options.model),
        decode_budget=decode_budget,
    )


def _paged_layers(prompt: Prompt, length: int, page: int, retriever: Retriever | None) -> list[PagedLayer]:
    logical = -(-(length + 64) // page)
    table = (torch.randperm(logical, device=CARD).int() + 1)[None]
    lengths = torch.tensor([length], device=CARD, dtype=torch.int32)
    decoder = Decoder()
    layers = []
    for keys, values in zip(prompt.keys, prompt.values, strict=True):
        shape = (logical + 1, keys.shape[1], page, keys.shape[3])
        layer = PagedLayer(
            torch.zeros(shape, device=CARD, dtype=BF16),
            torch.zeros(shape, device=CARD, dtype=BF16),
            table,
            retriever,
            decoder,
        )
        layer.fill(keys[:, :, :length].contiguous(), values[:, :, :length].contiguous(), lengths)
        layers.append(layer)
    return layers
