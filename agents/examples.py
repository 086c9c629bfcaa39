"""What may be put between the text and the question: a template of thought, and examples made from the text."""

from __future__ import annotations

from collections.abc import Sequence

from longleaf.agents import demonstration, template
from longleaf.agents.reader import Ask, Work
from longleaf.memory.records import SourceSpan

OFFERED_BY = ("retrieve", "direct")
"""Readers that pay attention to these options."""


def examples(work: Work, text: str, spans: Sequence[SourceSpan]) -> tuple[str, list[str]]:
    """`text`, which is the context and comes once, with what stands between it and the question; and notes on that.

    The same text where neither option is on. `spans` are where the model may make examples from.
    """
    thought, told = template.example(work)
    shown, made = demonstration.demonstrations(work, spans)
    return "\n\n".join(part for part in (text, thought, shown) if part), told + made


def prompts(ask: Ask) -> tuple[str, ...]:
    """Names of the prompt files that the options of a question add to its reader's."""
    wanted = ((template.PROMPT, ask.options.templates), (demonstration.PROMPT, ask.options.demonstrations > 0))
    return tuple(name for name, on in wanted if on and ask.reader in OFFERED_BY)
