"""What a reading will cost, before it begins: calls and tokens from the reader, seconds from a trial of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from longleaf.agents.reader import Ask, Deps, Estimate
from longleaf.agents.registry import reader
from longleaf.agents.router import AUTO, Choice, resolve
from longleaf.agents.run import check
from longleaf.engine.contract import Engine, Message, Request, Sampling, complete

_TRIAL_WORDS = 400
_TRIAL_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Forecast:
    """The most that a reading costs. `seconds` come from this machine's speed just now; they are no promise.

    `reader` is who would read, and `why` the router's reason where it chose.
    """

    reader: str
    why: str
    estimate: Estimate
    seconds: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second, of prompts and of replies."""

    prefill: float
    decode: float


def forecast(ask: Ask, deps: Deps) -> Forecast:
    """What answering would cost. Raises as `start` does where the question cannot be asked at all."""
    check(ask, deps.documents)
    choice = resolve(ask, deps) if ask.reader == AUTO else Choice(ask.reader, "")
    estimate = reader(choice.reader).estimate(replace(ask, reader=choice.reader), deps)
    speed = measured(deps.engine)
    seconds = estimate.prompt_tokens / speed.prefill + estimate.generated_tokens / speed.decode
    return Forecast(choice.reader, choice.why, estimate, seconds)


def measured(engine: Engine) -> Speed:
    """The model's speed, from two calls that differ in the length of the reply."""
    _trial(engine, "Say yes.", 1)  # the first call of a process is slower: kernels are chosen, memory is got
    prompt = _trial(engine, f"{_prose(1300)} Say yes.", 1)
    prefill = prompt.tokens / max(prompt.seconds, 1e-4)
    reply = _trial(engine, f"{_prose(1700)} Say no, and say why.", _TRIAL_TOKENS)
    decode = max(reply.seconds - reply.tokens / prefill, 1e-4)
    return Speed(prefill, max(reply.generated - 1, 1) / decode)


@dataclass(frozen=True, slots=True)
class _Trial:
    """One call: prompt tokens that were computed, seconds in all, reply tokens."""

    tokens: int
    seconds: float
    generated: int


def _prose(first_year: int) -> str:
    """Different prose for each trial, or the second would find the first one's keys and values kept."""
    years = range(first_year, first_year + _TRIAL_WORDS // 8)
    return " ".join(f"{year} was a year of rain and good harvests." for year in years)


def _trial(engine: Engine, prompt: str, tokens: int) -> _Trial:
    usage = complete(engine, Request("trial", (Message("user", prompt),), Sampling(max_tokens=tokens))).usage
    return _Trial(max(usage.prompt_tokens - usage.cached_tokens, 1), usage.seconds, usage.generated_tokens)
