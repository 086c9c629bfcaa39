"""General prompts, which the base model answers before it is trained: so it goes on answering them as it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from example import Example

_ASKS = (
    "What is {}?|Explain {} in simple terms.|Write a short paragraph about {}.|Give me three facts about {}.|"
    "Why is {} important?|Describe {} to a child.|What should a beginner know about {}?"
)
_ABOUT = (
    "photosynthesis|the French Revolution|compound interest|a healthy breakfast|black holes|the water cycle|chess|"
    "climate change|the Roman Empire|electric cars|vaccines|jazz|gravity|the stock market|yoga|volcanoes|bread baking|"
    "the human heart|recycling|the Great Wall of China|time zones|coffee|dinosaurs|the internet|solar power|tea|sleep"
)
_REQUESTS = (
    "Write a polite email asking for a day off.",
    "Write a haiku about the sea.",
    "List five things to pack for a weekend in the mountains.",
    "Give me a recipe for pancakes.",
    "How do I stay focused while studying?",
    "Tell me a short story about a lost dog.",
    "Translate 'good morning' into Spanish.",
    "What is 12 times 8?",
    "Write a Python function that adds two numbers.",
    "How can I sleep better?",
    "Suggest a name for a bakery.",
    "Who are you?",
    "Hello! How are you today?",
    "What are the pros and cons of working from home?",
    "Write a thank-you note to a teacher.",
)


def prompts() -> list[str]:
    """The prompts, in a fixed order."""
    made = [ask.format(about) for about in _ABOUT.split("|") for ask in _ASKS.split("|")]
    return [*_REQUESTS, *made]


@torch.inference_mode()
def answered(model: Any, tokenizer: Any, asked: Sequence[str], rows: int = 48, tokens: int = 160) -> list[Example]:
    """What the model answers to each, greedily, as examples without a system part of ours."""
    made: list[Example] = []
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    for first in range(0, len(asked), rows):
        batch = asked[first : first + rows]
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in batch
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        ids = model.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            repetition_penalty=1.1,
            pad_token_id=tokenizer.eos_token_id,
        )
        for text, row in zip(batch, ids, strict=True):
            reply = tokenizer.decode(row[inputs.input_ids.shape[1] :], skip_special_tokens=True).strip()
            made.append(Example("chat", "base model", "", text, "", reply))
    return made
