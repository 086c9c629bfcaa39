"""Tiny random models of every architecture, made once, and settings that make a technique sparse on short prompts."""

import functools
import inspect

import torch

from longleaf.engine.attention.policies.quest import quest
from longleaf.engine.attention.policies.retrieval import Retrieval
from longleaf.engine.attention.registry import techniques
from longleaf.engine.attention.runner import Runner, shape_of, summary_of
from longleaf.engine.attention.selection import EVERYTHING, Budget
from longleaf.engine.pages.store import PageStore

PAGE = 16
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
}
OWN = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": None},
    "gemma3": {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
}
ARCHITECTURES = tuple(OWN)

# What makes a technique choose on a hundred tokens; each takes the settings it has.
SMALL = {
    "budget": Budget(tokens=64, sinks=16, recent=16),
    "look": Budget(tokens=64, sinks=16, recent=16),
    "heads": ((0, 1), (2, 3)),
    "sinks": 16,
    "recent": 16,
    "size": 16,
    "grain": 32,
    "last": 8,
    "vertical": 1,
    "slash": 1,
    "coverage": 0.5,
    "least": 1,
    "block": 32,
    "dense": 0.0,
    "dense_layers": 0,
    "refined": 4,
    "per_cluster": 4,
    "alike": 2.0,
    "window": 24,
    "group": 2,
    "chunk": 32,
    "local": 16,
    "trained": 64,
    "longest": 256,
    "policy": quest(Budget(tokens=64, sinks=16, recent=16), dense_layers=0),
    "retrieval": frozenset({(0, 0), (1, 1), (2, 0)}),
}


@functools.cache
def model(architecture, dtype=torch.float32):
    import transformers

    kinds = {"gemma3": "Gemma3TextConfig"}
    config = getattr(transformers, kinds.get(architecture, f"{architecture.capitalize()}Config"))
    torch.manual_seed(3)
    torch.set_num_threads(1)
    made = transformers.AutoModelForCausalLM.from_config(config(**COMMON, **OWN[architecture]), dtype=dtype)
    return made.eval().requires_grad_(False)


def tokens(count, seed=0):
    return torch.randint(0, 64, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def small(technique):
    known = inspect.signature(technique.build).parameters
    return {name: value for name, value in SMALL.items() if name in known}


def made(technique, settings):
    """(policy, positions) with which a technique is used alone."""
    settings = dict(settings)
    if technique.axis == "positions":
        return None, technique.build(**settings)
    if technique.axis == "summary":
        budget = settings.pop("budget")
        return Retrieval(technique.name, technique.build(**settings), budget, dense_layers=0), None
    return technique.build(**settings), None


def everything(technique):
    whole = {"budget": EVERYTHING} if technique.axis == "summary" else {}
    sized = {name: value for name, value in small(technique).items() if name in ("size", "grain", "block")}
    return made(technique, {**sized, **whole, **technique.everything})


def sparse(technique):
    extra = {"budget": SMALL["budget"]} if technique.axis == "summary" else {}
    return made(technique, {**small(technique), **extra})


def runner(architecture, policy, positions, *, dtype=torch.float32, chunk=32, capacity=None):
    network = model(architecture, dtype)
    store = PageStore(shape_of(network, PAGE), capacity=capacity)
    return Runner(network, store, summary=summary_of(policy), positions=positions, chunk=chunk)


def used(*axes):
    """Techniques that take part in a forward pass."""
    return [technique for axis in axes for technique in techniques(axis)]
