"""The whole decode step of a model of Llama-3-8B's shape with random weights, as one CUDA graph."""

from __future__ import annotations

import argparse
import statistics
import time
import traceback
from typing import Any

import torch
from gpu_report import BF16, BUDGET, CARD, HEAD, HEADS, KV_HEADS, LAYERS, K, Report
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from longleaf.engine.attention.graph import DecodeStep
from longleaf.engine.attention.triton.append import summarize
from longleaf.engine.attention.triton.decode import Decoder
from longleaf.engine.attention.triton.layers import PagedLayer
from longleaf.engine.attention.triton.retrieve import Retriever


def llama_8b() -> Any:
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        num_hidden_layers=LAYERS,
        vocab_size=128256,
        max_position_embeddings=1 << 20,
        head_dim=HEAD,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device=CARD).to(BF16)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.01)
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.weight.data.fill_(1)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(CARD)
    return model.eval().requires_grad_(False)


class Nothing:
    """A step's layer that attends to nothing: what the rest of the model costs."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scale: float
    ) -> torch.Tensor:
        return torch.full_like(query, 0.01)


class Models:
    """The 8B model and its compiled step, made once for all sections that use them."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._model: Any = None
        self._step: DecodeStep | None = None

    def model(self) -> Any:
        if self._model is None:
            self._model = llama_8b()
        return self._model

    def step(self) -> DecodeStep:
        if self._step is None:
            self._step = DecodeStep(self.model(), 1, compiled=self._mode)
        return self._step

    def free(self) -> None:
        """Lets go of the pages of the last step's layers."""
        if self._step is not None:
            self._step.use([Nothing()] * LAYERS, 1)

    def weight_bytes(self) -> int:
        embedding = self.model().model.embed_tokens.weight
        return sum(p.nbytes for p in self.model().parameters()) - int(embedding.nbytes)


def step_ms(step: DecodeStep, steps: int = 40) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(3):
        begin.record()
        step.run(steps)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / steps)
    return statistics.median(times)


def decode_step(report: Report, options: argparse.Namespace, models: Models) -> None:
    step = models.step()
    begun = time.perf_counter()
    step.use([Nothing()] * LAYERS, 1 << 20)
    step.begin([5], [1000])
    step.capture()
    floor = step_ms(step)
    report.note(compile_and_capture_s=time.perf_counter() - begun, step_mode=options.mode)
    report.add("decode step, 8B shape, batch 1", tokens="any", attention="none", ms=floor)
    page, spare = 64, 256  # of a row's room, what is left for new tokens
    physical = 256 * K // page + 1
    decoder, retriever = Decoder(), Retriever(BUDGET // page, kind="minmax")
    by_means = Retriever(BUDGET // page, kind="mean")
    table = (torch.randperm(physical - 1, device=CARD).int() + 1)[None]
    layers: list[dict[str, PagedLayer]] = []
    everything = torch.arange(physical, device=CARD)
    filled = torch.full((physical,), page, device=CARD, dtype=torch.int32)
    for _ in range(LAYERS):
        keys = torch.randn(physical, KV_HEADS, page, HEAD, device=CARD, dtype=BF16)
        values = torch.randn_like(keys)
        both = {
            "sparse": PagedLayer(keys, values, table, retriever, decoder),
            "sparse, by means": PagedLayer(keys, values, table, by_means, decoder),
            "dense, ours": PagedLayer(keys, values, table, None, decoder),
        }
        both["dense, ours"].summary = both["sparse, by means"].summary
        summarize(both["sparse"].summary, keys, everything, filled, "minmax")
        summarize(both["sparse, by means"].summary, keys, everything, filled, "mean")
        layers.append(both)
    for tokens in (32 * K, 128 * K, 256 * K):
        for kind in ("sparse", "sparse, by means", "dense, ours"):
            try:
                used = []
                for both in layers:
                    layer = both[kind]
                    layer.table = table[:, : tokens // page].contiguous()
                    used.append(layer)
                step.use(used, tokens)
                step.begin([5], [tokens - spare])
                launched = step.run(4).tolist()
                step.begin([5], [tokens - spare])
                step.capture()
                replayed = step.run(4).tolist()
                step.begin([5], [tokens - spare])
                ms = step_ms(step)
                summaries = {"sparse": 1, "sparse, by means": 2}  # of a page, in tokens' keys and values
                read = BUDGET + summaries[kind] * tokens // page if kind in summaries else tokens
                moved = models.weight_bytes() + read * KV_HEADS * HEAD * 4 * LAYERS
                report.add(
                    "decode step, 8B shape, batch 1",
                    tokens=f"{tokens // K}K",
                    attention=kind,
                    ms=ms,
                    tb_s=moved / ms / 1e9,
                    roofline=f"{moved / report.bandwidth / ms * 1e3:.0%}",
                    us_a_layer=(ms - floor) / LAYERS * 1e3,
                    graph_equals_launched=launched == replayed,
                )
            except Exception:  # noqa: BLE001
                traceback.print_exc()
