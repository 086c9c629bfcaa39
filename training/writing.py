"""Replies of a model that is being trained or asked, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from longleaf.engine.contract import Message
from longleaf.engine.prompt import PromptForm


@torch.inference_mode()
def written(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    tokens: int,
    temperature: float = 0.0,
    batch_tokens: int = 16384,
) -> list[str]:
    """What the model replies to each prompt, in their order: greedily, or drawn from the likeliest 95%."""
    form = PromptForm(tokenizer)
    rows = [form.encode(messages).ids for messages in prompts]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]), reverse=True)
    end = tokenizer.eos_token_id
    how: dict[str, Any] = {"do_sample": False}
    if temperature:
        how = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0}
    replies = [""] * len(rows)
    while order:
        longest = len(rows[order[0]])
        count = max(1, batch_tokens // (longest + tokens))
        batch, order = order[:count], order[count:]
        ids = torch.full((len(batch), longest), end)
        seen = torch.zeros((len(batch), longest), dtype=torch.long)
        for line, place in enumerate(batch):
            row = rows[place]
            ids[line, longest - len(row) :] = torch.tensor(row)
            seen[line, longest - len(row) :] = 1
        made = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=seen.to(model.device),
            max_new_tokens=tokens,
            pad_token_id=end,
            **how,
        )
        for place, line in zip(batch, made[:, longest:].tolist(), strict=True):
            replies[place] = tokenizer.decode(line, skip_special_tokens=True).strip()
    return replies
