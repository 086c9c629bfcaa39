"""A document that `TorchEngine` keeps on a GPU: the same replies with Triton's kernels as with torch, and how fast."""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from gpu_needles import FILLER
from gpu_report import CARD, Report, release

from longleaf.engine.attention.attend import TorchAttend
from longleaf.engine.attention.executor import executor
from longleaf.engine.attention.runner import shape_of
from longleaf.engine.backends.torch import TorchEngine
from longleaf.engine.contract import Done, Event, Failed, Message, Request, Sampling
from longleaf.engine.pages.store import PageStore

_PLANS = ("dense", "quest", "page_mass")
_QUESTIONS = (
    " What is the secret code of Verity?",
    " Describe the town, its people and its trade in many long sentences.",
    " Write a long letter about a day in this town to a friend who has never been there.",
)
_FIRST, _LONG = 1, 64
_ROOM = 256
Way = Literal["torch", "triton"]


@dataclass(frozen=True)
class Said:
    text: str
    tokens: int
    seconds: float


Ask = Callable[[Sequence[Request]], Iterator[Event]]


def documents(report: Report, options: argparse.Namespace) -> None:
    """Raises `AssertionError` where a reply in float32 is another one, or a part failed."""
    if not options.model:
        print("documents is left out: it needs --model FOLDER", flush=True)
        return
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    logging.getLogger("longleaf.engine.attention.executor").setLevel(logging.INFO)
    wrong = []
    for number in ("float32", "bfloat16"):
        said: dict[tuple[str, Way], list[str]] = {}
        for way in ("torch", "triton"):
            try:
                _kept(report, options, number, way, said)
            except Exception:  # noqa: BLE001 - the other way is measured all the same
                traceback.print_exc()
                wrong.append(f"{number}, {way}")
            release()
        for plan in _PLANS:
            theirs, ours, plain = (said.get(key, []) for key in ((plan, "torch"), (plan, "triton"), ("plain", "torch")))
            alike, as_plain = (sum(a == b for a, b in zip(ours, other, strict=False)) for other in (theirs, plain))
            report.add(
                "replies with the kernels that are those of torch, and of a prompt that is not kept",
                dtype=number,
                plan=plan,
                as_torch=alike,
                as_plain=as_plain,
                of=len(_QUESTIONS),
            )
            # Half precision may decide between two likely words otherwise; float32 may not.
            if number == "float32" and alike < len(_QUESTIONS):
                wrong.append(f"{number}, {plan}: {theirs} and {ours}")
    if wrong:
        raise AssertionError("; ".join(wrong))


@contextmanager
def _engine(options: argparse.Namespace, number: str, way: Way) -> Iterator[TorchEngine]:
    attend = TorchAttend() if way == "torch" else None
    # Nothing is kept of earlier prompts, so that plain prompts are computed.
    engine = TorchEngine.open(options.model, dtype=number, device="cuda", kept_tokens=0, attend=attend)
    try:
        yield engine
    finally:
        engine.close()


def _kept(
    report: Report, options: argparse.Namespace, number: str, way: Way, said: dict[tuple[str, Way], list[str]]
) -> None:
    with _engine(options, number, way) as engine:
        model = engine._model
        if way == "triton":
            found = executor(model, PageStore(shape_of(model, 32), device=model.device)).name
            assert found == "triton", f"attention is executed by {found}; the log says why"
        report.note(document_heads_are_known="scores_context" in engine.card.capabilities)
        text = _text(engine, min(options.document_tokens, engine.card.window - _ROOM - 64))
        requests = [_request(text, question, _LONG) for question in _QUESTIONS]
        timed = number == "bfloat16"
        if way == "torch":
            said["plain", way] = [_said(engine.generate, request).text for request in requests]
            if timed:
                _pace(report, engine.generate, text, kept="no", plan="", attention="transformers")
        for plan in _PLANS:
            torch.cuda.synchronize()
            begun = time.perf_counter()
            document = engine.open_document((Message("user", text),), plan=plan, room=_ROOM)
            torch.cuda.synchronize()
            opened = time.perf_counter() - begun
            said[plan, way] = [_said(document.generate, request).text for request in requests]
            if timed:
                row = {"kept": "yes", "plan": plan, "attention": way, "tokens": document.tokens, "open_s": opened}
                _pace(report, document.generate, text, **row)


def _text(engine: TorchEngine, tokens: int) -> str:
    """A text of about `tokens` tokens with a needle in its middle."""
    draw, held, sentences = random.Random(0), 0, []
    length = {sentence: engine.count(f" {sentence}") for sentence in FILLER}
    while held < tokens - 64:
        sentences.append(draw.choice(FILLER))
        held += length[sentences[-1]]
    sentences.insert(len(sentences) // 2, "The secret code of Verity is 40817.")
    return "Read this text.\n\n" + " ".join(sentences) + "\n\nQuestion:"


def _request(text: str, question: str, most: int) -> Request:
    return Request(question, (Message("user", text + question),), Sampling(max_tokens=most))


def _said(ask: Ask, request: Request) -> Said:
    torch.cuda.synchronize(CARD)
    begun = time.perf_counter()
    done = None
    for event in ask([request]):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Done):
            done = event
    assert done is not None, "a request was not answered"
    return Said(done.text, done.usage.generated_tokens, time.perf_counter() - begun)


def _pace(report: Report, ask: Ask, text: str, **row: str | int | float) -> None:
    """Seconds to the first token, and milliseconds of each after it; medians over the questions, asked before."""
    first, each = [], []
    for question in _QUESTIONS:
        first.append(_said(ask, _request(text, question, _FIRST)).seconds)
        whole = _said(ask, _request(text, question, _LONG))
        if whole.tokens > _FIRST:
            each.append((whole.seconds - first[-1]) / (whole.tokens - _FIRST) * 1e3)
    report.add(
        "a kept document, one question at a time, bfloat16",
        **row,
        first_token_s=statistics.median(first),
        ms_a_token=statistics.median(each) if each else float("nan"),
    )
