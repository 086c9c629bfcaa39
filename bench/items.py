"""Questions on long documents, made from real texts; the same seed and number give the same item on any machine.

Tasks: `needle` (a number said once in real prose, as RULER's; Hsieh et al., 2024), `keys` (five such numbers, of which
one is asked for), `fact` (a plain sentence among
four of the same form about other things), `hotpot` (HotpotQA's ten paragraphs among those of other questions), `qa1`
to `qa3` (bAbI's facts in real prose, in order, as BABILong has them; Kuratov et al., 2024).

A length counts tokens of document, question and answer together, `ROOM` of them for question and answer. `GOLD` is no
length: the document is then the evidence alone. At length 0 it is what a task has without filler.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from report import read_lines

GOLD = -1
ROOM = 256
FACTS = 5
"""Sentences of one form in a `fact` or `keys` item: the one asked for, and distractors."""

CountTokens = Callable[[Sequence[str]], list[int]]
Span = tuple[int, int]

BOOKS = (
    "herman-melville_moby-dick",
    "leo-tolstoy_war-and-peace_louise-maude_aylmer-maude",
    "jane-austen_pride-and-prejudice",
    "mary-shelley_frankenstein",
)
"""Filler, in this order: text in `haystack_texts`, or an EPUB in `demo_docs`. The first alone holds 300,000 tokens."""

NEEDLES = ("needle", "keys", "fact")
BABI = {"qa1": "qa1_single-supporting-fact", "qa2": "qa2_two-supporting-facts", "qa3": "qa3_three-supporting-facts"}

_FIXED_START = 200_000
"""Fillers longer than this all begin at the first paragraph, so that what was embedded for one serves the next."""


def counter(folder: Path) -> CountTokens:
    """Counts tokens by the tokenizer in a model's folder."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda texts: [len(found) for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


@dataclass(frozen=True, slots=True)
class Item:
    """A question with its document. `evidence` are the spans that answer it, `headings` those of headings."""

    task: str
    length: int
    number: int
    question: str
    golds: tuple[str, ...]
    text: str
    evidence: tuple[Span, ...]
    headings: tuple[Span, ...] = ()

    @property
    def key(self) -> str:
        """Names the document, for a folder: equal for equal texts."""
        return f"{self.task}-{self.length}-{self.number}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"


class Items:
    """Makes items. `count` counts tokens of several texts, by the tokenizer of the model that will read them."""

    def __init__(self, data: Path, count: CountTokens, seed: int = 0) -> None:
        self._data = data
        self._count = count
        self._seed = seed
        self._prose = cache(self._read_prose)
        self._novel = cache(lambda: self._read_prose(BOOKS[:1]))  # War and Peace has a Mary of its own
        self._pool = cache(self._read_pool)
        self._hotpot = cache(lambda: read_lines(self._data / "hotpotqa" / "dev_distractor.jsonl"))
        self._babi = cache(lambda task: babi_questions(next((data / "babi" / "en").glob(f"{BABI[task]}_*.txt"))))

    def size(self, task: str) -> int | None:
        """How many items a task has; None for those that never run out."""
        if task in NEEDLES:
            return None
        return len(self._hotpot() if task == "hotpot" else self._babi(task))

    def make(self, task: str, length: int, number: int) -> Item:
        """Item `number` (from 0) of a task at a length. The question is the same at every length."""
        draw = random.Random(f"{self._seed}:{task}:{number}")
        if task == "needle":
            return self._planted(task, length, number, draw, *needle(draw))
        if task == "keys":
            return self._planted(task, length, number, draw, *keys(draw))
        if task == "fact":
            return self._planted(task, length, number, draw, *facts(draw))
        if task == "hotpot":
            return self._paragraphs(length, number, draw)
        return self._scattered(task, length, number, draw)

    def _planted(
        self, task: str, length: int, number: int, draw: random.Random, sentences: list[str], question: str, gold: str
    ) -> Item:
        """The first sentence answers. Depths of twenty items in a row are spread evenly over the document."""
        if length in (GOLD, 0):
            # One paragraph of the filler around it, and at 0 the distractors too.
            paragraphs, kept = self._filler(200, number, self._prose()), sentences[: 1 if length == GOLD else None]
        else:
            room = length - ROOM - sum(self._count(sentences))
            paragraphs, kept = self._filler(room, number, self._prose()), sentences
        depths = [((7 * number) % 20 + draw.random()) / 20, *(draw.random() for _ in kept[1:])]
        text, spans = plant("\n\n".join(paragraphs), kept, depths)
        return Item(task, length, number, question, (gold,), text, tuple(spans[:1]))

    def _scattered(self, task: str, length: int, number: int, draw: random.Random) -> Item:
        questions = self._babi(task)
        chosen = questions[random.Random(f"{self._seed}:{task}").sample(range(len(questions)), len(questions))[number]]
        lines = list(chosen.facts)
        supporting = [chosen.facts[place] for place in chosen.supporting]
        if length in (GOLD, 0):
            kept = supporting if length == GOLD else lines
            text, spans = " ".join(kept), list(_joined(kept, " "))
        else:
            filler = self._filler(length - ROOM - sum(self._count(lines)), number, self._novel())
            kept = lines
            text, spans = plant("\n\n".join(filler), lines, sorted(draw.random() for _ in lines))
        evidence = spans if length == GOLD else [spans[place] for place in chosen.supporting]
        return Item(task, length, number, chosen.question, (chosen.answer,), text, tuple(evidence))

    def _paragraphs(self, length: int, number: int, draw: random.Random) -> Item:
        rows = self._hotpot()
        row = rows[random.Random(f"{self._seed}:hotpot").sample(range(len(rows)), len(rows))[number]]
        supporting = set(row["supporting_titles"])
        own = [(part["title"], part["text"]) for part in row["paragraphs"]]
        kept = [part for part in own if part[0] in supporting] if length == GOLD else own
        if length > 0:
            titles = {title for title, _ in own}
            room = length - ROOM - sum(self._count([f"{title}\n\n{text}\n\n" for title, text in own]))
            others = [(part, tokens) for part, tokens in self._pool() if part[0] not in titles]
            start = 0 if length > _FIXED_START else 37 * number % len(others)
            kept = _within(others[start:] + others[:start], room)
            for part in own:
                kept.insert(draw.randrange(len(kept) + 1), part)
        blocks = [piece for part in kept for piece in part]
        spans = list(_joined(blocks, "\n\n"))
        evidence = [spans[2 * place + 1] for place, part in enumerate(kept) if part[0] in supporting]
        text = "\n\n".join(blocks)
        return Item(
            "hotpot", length, number, row["question"], tuple(row["answers"]), text, tuple(evidence), tuple(spans[::2])
        )

    def _filler(self, tokens: int, number: int, prose: list[tuple[str, int]]) -> list[str]:
        """Paragraphs of prose with about so many tokens, from a place that differs by item."""
        start = 0 if tokens > _FIXED_START else 997 * number % len(prose)
        chosen = _within(prose[start:] + prose[:start], tokens)
        return chosen or [prose[start][0]]

    def _read_prose(self, books: Sequence[str] = BOOKS) -> list[tuple[str, int]]:
        texts = [book(self._data, name) for name in books]
        paragraphs = [part.strip() for text in texts if text for part in re.split(r"\n\s*\n", text)]
        # The imprint at a book's ends is no prose.
        kept = [part for part in paragraphs if part and "ebook" not in part.lower()]
        return list(zip(kept, [size + 2 for size in self._count(kept)], strict=True))

    def _read_pool(self) -> list[tuple[tuple[str, str], int]]:
        rows = read_lines(self._data / "hotpotqa" / "paragraph_pool.jsonl")
        parts = [(row["title"], row["text"]) for row in rows]
        return list(zip(parts, self._count([f"{title}\n\n{text}\n\n" for title, text in parts]), strict=True))


def _within(sized: Sequence[tuple[Any, int]], tokens: int) -> list[Any]:
    """The first things that fit in `tokens` together, without those too big. Exits where all do not fill it."""
    total = sum(size for _, size in sized)
    if tokens > total:
        raise SystemExit(f"the filler texts hold {total} tokens; {tokens} were asked for")
    kept, used = [], 0
    for thing, size in sized:
        if used + size <= tokens:
            kept.append(thing)
            used += size
        if tokens - used < 16:
            break
    return kept


def book(data: Path, name: str) -> str | None:
    """A book's text: as it lies in `haystack_texts`, or read from its EPUB with our own parser. None without either."""
    text, epub = data / "haystack_texts" / f"{name}.txt", data / "demo_docs" / f"{name}.epub"
    if text.exists():
        return text.read_text(encoding="utf-8")
    if not epub.exists():
        return None
    from longleaf.retrieval.parsers import parse

    return parse(epub).text.characters


_BOUNDARY = re.compile(r"(?<=[a-z]{3}[.!?])[”’\"']?\s+(?=[A-Z“‘\"])|\n\n")
"""Between sentences, and not behind "Mr." or before a dash."""


def plant(text: str, sentences: Sequence[str], depths: Sequence[float]) -> tuple[str, list[Span]]:
    """`text` with each sentence put in at the first sentence end behind its depth (0 to 1), and their spans."""
    places = []
    for sentence, depth in zip(sentences, depths, strict=True):
        found = _BOUNDARY.search(text, int(depth * len(text)))
        places.append((found.end() if found else len(text), sentence))
    pieces: list[str] = []
    spans: dict[int, Span] = {}
    size = done = 0
    for order in sorted(range(len(places)), key=lambda index: places[index][0]):
        place, sentence = places[order]
        before = text[done:place] + ("" if place < len(text) else " ")
        pieces += [before, sentence, " "]
        spans[order] = (size + len(before), size + len(before) + len(sentence))
        size, done = size + len(before) + len(sentence) + 1, place
    return "".join([*pieces, text[done:]]), [spans[index] for index in range(len(places))]


def _joined(parts: Sequence[str], between: str) -> Iterator[Span]:
    start = 0
    for part in parts:
        yield start, start + len(part)
        start += len(part) + len(between)


# Needles

_ADJECTIVES = "amber brisk crimson dusty eager frosty gilded hollow ivory jagged lunar mellow nimble opal quiet".split()
_NOUNS = (
    "anchor basket candle dagger ember falcon garden harbour island jacket kettle lantern mirror needle orchard".split()
)


def needle(draw: random.Random) -> tuple[list[str], str, str]:
    """Sentences, question and answer in RULER's words."""
    key = f"{draw.choice(_ADJECTIVES)}-{draw.choice(_NOUNS)}"
    value = str(draw.randrange(1_000_000, 10_000_000))
    sentence = f"One of the special magic numbers for {key} is: {value}."
    return [sentence], f"What is the special magic number for {key} mentioned in the provided text?", value


def keys(draw: random.Random) -> tuple[list[str], str, str]:
    """As `needle`; the sentences behind the first give numbers of other keys."""
    made = {item[1]: item for item in (needle(draw) for _ in range(4 * FACTS))}  # by question: no key twice
    chosen = list(made.values())[:FACTS]
    return [sentences[0] for sentences, _, _ in chosen], chosen[0][1], chosen[0][2]


_PLACES = "Marrowby Tilscombe Ostenfield Quarnley Brackwater Fennimore Hollinside Wexmoor Dunraven Pellworth".split()
_PEOPLE = [
    f"{first} {last}"
    for first, last in zip(
        "Agnes Tobias Wilhelmina Rupert Cordelia Ambrose Henrietta Lionel Beatrix Osbert".split(),
        "Thackley Vorster Penhallow Drax Underhay Quillfeather Mossop Ravensdale Tindall Yarrow".split(),
        strict=True,
    )
]
_YEARS = [str(year) for year in range(1702, 1800, 7)]
_THINGS = "walnut pewter slate copper ebony marble tin leather cedar brass".split()
_FORMS: tuple[tuple[str, str, list[str]], ...] = (
    ("The lighthouse at {key} is kept by {value}.", "Who keeps the lighthouse at {key}?", _PEOPLE),
    ("The church bell of {key} was cast in {value}.", "In what year was the church bell of {key} cast?", _YEARS),
    ("The town charter of {key} lies in a chest of {value}.", "What is the chest of {key}'s charter made of?", _THINGS),
    ("The old mill of {key} belongs to {value}.", "To whom does the old mill of {key} belong?", _PEOPLE),
    ("The bridge at {key} was washed away in {value}.", "In what year was the bridge at {key} washed away?", _YEARS),
)


def facts(draw: random.Random) -> tuple[list[str], str, str]:
    """As `needle`, in plain words; the sentences behind the first say the same of other places."""
    form, question, values = draw.choice(_FORMS)
    keys, chosen = draw.sample(_PLACES, FACTS), draw.sample(values, FACTS)
    sentences = [form.format(key=key, value=value) for key, value in zip(keys, chosen, strict=True)]
    return sentences, question.format(key=keys[0]), chosen[0]


# bAbI


@dataclass(frozen=True, slots=True)
class BabiQuestion:
    """A question, the facts said before it in its story, and the places among them of those that answer it."""

    facts: tuple[str, ...]
    question: str
    answer: str
    supporting: tuple[int, ...]


def babi_questions(file: Path) -> list[BabiQuestion]:
    """The questions of a bAbI file, with the story up to each."""
    questions: list[BabiQuestion] = []
    story: list[str] = []
    places: dict[str, int] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        number, _, rest = line.partition(" ")
        if number == "1":
            story, places = [], {}
        if "\t" in rest or "|" in rest:
            question, answer, supporting = re.split(r"\s*[\t|]\s*", rest.strip())
            where = tuple(places[key] for key in supporting.split())
            questions.append(BabiQuestion(tuple(story), question.strip(), answer.strip(), where))
        else:
            places[number] = len(story)
            story.append(rest.strip())
    return questions
