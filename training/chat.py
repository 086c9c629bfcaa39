"""General prompts, which the base model answers before it is trained: so it goes on answering them as it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from example import Example
from writing import written

from longleaf.engine.contract import Message

_ASKS = (
    "What is {}?|Explain {} in simple terms.|Write a short paragraph about {}.|Give me three facts about {}.|"
    "Why does {} matter?|Describe {} to a child.|What should a beginner know about {}?|How did {} come about?"
)
_ABOUT = (
    "electricity|the French Revolution|compound interest|a balanced diet|black holes|the water cycle|chess|"
    "climate change|the Roman Empire|electric cars|penicillin|jazz|magnetism|the stock market|yoga|volcanoes|"
    "bread baking|the human heart|recycling|the Great Wall of China|time zones|coffee|dinosaurs|the internet|"
    "solar power|tea|sleep|the Moon|bees|cheese making|democracy|the printing press|glass|earthquakes|the violin|"
    "football|origami|rice|steam engines|the Silk Road|coral reefs|dreams|money|the alphabet|rainbows|wool|maps|"
    "the Olympic Games|concrete|salt|the piano|photography|trains|penguins|the Renaissance|algebra|honey|lightning|"
    "the ocean floor|libraries|pottery|antibiotics|the potato|wind power|comets|the human eye|kites|bridges|whales|"
    "the calendar|paper|ants|the desert|hospitals|batteries|opera|the atom|gardening|dictionaries|clocks|snow|"
    "mountain climbing|the postal service|friendship|advertising|robots|the vote|chocolate|pilgrimages|satellites"
)
_REQUESTS = (
    "Write a polite email asking for a day off.",
    "Write a limerick about a frog.",
    "List five things to take to the beach.",
    "Give me a recipe for tomato soup.",
    "How do I stay focused while studying?",
    "Tell me a short story about a lost dog.",
    "Translate 'good morning' into Spanish.",
    "What is 12 times 8?",
    "Write a Python function that adds two numbers.",
    "How can I fall asleep faster?",
    "Suggest a name for a bookshop.",
    "Who are you?",
    "Hello! How are you today?",
    "What are the pros and cons of working from home?",
    "Write a letter to a neighbour about a noisy dog.",
    "What is the opposite of generous?",
    "Name four animals that live in the forest.",
    "How far is the Moon from the Earth?",
    "Write a slogan for a bicycle shop.",
    "How do I clean a wooden table?",
    "What is the plural of mouse?",
    "Give me an example of a metaphor.",
    "Which is heavier, iron or feathers?",
    "Write two sentences that begin with the word 'because'.",
    "How should I prepare for an exam?",
    "What can I cook with potatoes and eggs?",
    "Describe a busy market in the morning.",
    "Write a message to congratulate a colleague.",
    "What does a lawyer do?",
    "Count from one to ten in French.",
)


def prompts() -> list[str]:
    """The prompts, in a fixed order."""
    made = [ask.format(about) for about in _ABOUT.split("|") for ask in _ASKS.split("|")]
    return [*_REQUESTS, *made]


def answered(model: Any, tokenizer: Any, asked: Sequence[str], tokens: int = 160) -> list[Example]:
    """What the model answers to each, greedily and once more by chance, as examples without a system part of ours."""
    room = 200_000 if model.device.type == "cuda" else 12_000
    messages = [[Message("user", text)] for text in asked]
    return [
        Example("chat", "base model", "", text, "", reply)
        for temperature in (0.0, 1.0)
        for text, reply in zip(asked, written(model, tokenizer, messages, tokens, temperature, room), strict=True)
    ]
