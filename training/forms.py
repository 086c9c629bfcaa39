"""Made-up facts of one form about many things: what a reader confuses, and must learn to tell apart.

The benches have needles of their own (`bench/items.py`); no form or name of theirs is used here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A sentence with `{key}` and `{value}`, and the question it answers.

    `values` says what kind of value it takes; `other` asks something of the same key that the sentence does not tell.
    """

    sentence: str
    question: str
    values: str
    other: str


@dataclass(frozen=True, slots=True)
class Planted:
    """Sentences of one form; the one at `place` answers `question` with `answer`."""

    sentences: tuple[str, ...]
    place: int
    question: str
    answer: str
    unanswered: str


def forms() -> tuple[Form, ...]:
    """All forms."""
    made = (
        (
            "The access code of {key} is {value}.",
            "What is the access code of {key}?",
            "code",
            "Who set the access code of {key}?",
        ),
        (
            "Remember that the secret number of {key} was given as {value}.",
            "What is the secret number of {key}?",
            "code",
            "When was the secret number of {key} chosen?",
        ),
        (
            "The registration number for {key} is: {value}.",
            "Which registration number does {key} have?",
            "code",
            "Who registered {key}?",
        ),
        (
            "Among the passwords, the one for {key} reads {value}.",
            "What is the password for {key}?",
            "word",
            "Who uses the password for {key}?",
        ),
        (
            "The colour chosen for {key} was {value}.",
            "Which colour was chosen for {key}?",
            "colour",
            "Who chose the colour for {key}?",
        ),
        (
            "The director of {key} is {value}.",
            "Who is the director of {key}?",
            "person",
            "How old is the director of {key}?",
        ),
        ("It was {value} who founded {key}.", "Who founded {key}?", "person", "When was {key} founded?"),
        (
            "The garden at {key} is looked after by {value}.",
            "Who looks after the garden at {key}?",
            "person",
            "How large is the garden at {key}?",
        ),
        (
            "{key} was first mentioned in {value}.",
            "In what year was {key} first mentioned?",
            "year",
            "Who first mentioned {key}?",
        ),
        (
            "The fire at {key} broke out in {value}.",
            "When did the fire at {key} break out?",
            "year",
            "What caused the fire at {key}?",
        ),
        (
            "The tower of {key} was rebuilt in {value}.",
            "In what year was the tower of {key} rebuilt?",
            "year",
            "Who rebuilt the tower of {key}?",
        ),
        (
            "A ticket to {key} costs {value} crowns.",
            "How much is a ticket to {key}?",
            "small",
            "Where are tickets to {key} sold?",
        ),
        (
            "The expedition to {key} took {value} days.",
            "How long did the expedition to {key} take?",
            "small",
            "Who led the expedition to {key}?",
        ),
        (
            "The best known product of {key} is {value}.",
            "What is the best known product of {key}?",
            "thing",
            "Who makes the best known product of {key}?",
        ),
        (
            "The statue in front of {key} is made of {value}.",
            "What is the statue in front of {key} made of?",
            "thing",
            "Who made the statue in front of {key}?",
        ),
        (
            "The archive of {key} is kept in {value}.",
            "Where is the archive of {key} kept?",
            "place",
            "How old is the archive of {key}?",
        ),
        (
            "The next meeting of {key} will be held in {value}.",
            "Where will the next meeting of {key} be held?",
            "place",
            "When will the next meeting of {key} be held?",
        ),
        (
            "The emblem of {key} shows a {value}.",
            "What does the emblem of {key} show?",
            "animal",
            "Who drew the emblem of {key}?",
        ),
    )
    return tuple(Form(*parts) for parts in made)


def planted(draw: random.Random, count: int) -> Planted:
    """`count` sentences of one form about different things with different values."""
    form = draw.choice(forms())
    keys: list[str] = []
    while len(keys) < count:
        key = _key(draw, form)
        if key not in keys:
            keys.append(key)
    values: list[str] = []
    while len(values) < count:
        value = _value(draw, form.values)
        if value not in values:
            values.append(value)
    told = [form.sentence.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
    place = draw.randrange(count)
    return Planted(
        tuple(sentence[:1].upper() + sentence[1:] for sentence in told),
        place,
        form.question.format(key=keys[place]),
        values[place],
        form.other.format(key=keys[place]),
    )


_FIRST = (
    "Ada Benno Carla Dimitri Elin Farid Greta Hamid Ilse Joost Katya Luca Mina Nils Olga Pablo Rhea Samir Tilda Uwe"
)
_LAST = (
    "Achterberg Bellini Corrigan Dufour Engström Fontaine Grimaldi Holloway Ibarra Jankowski Keller Lindgren Marchetti"
)
_STEMS = "Alder Birk Carrow Dell Ever Farn Glen Harrow Inver Kirk Lang Mar Nether Over Penn Rock Stan Thorn Under West"
_ENDS = "bridge burn bury combe dale den ford gate ham hurst leigh mere ness port stead thorpe ton ville wick worth"
_WORDS = "alpine basalt cobalt dapple ermine fallow gamma hazel indigo jasper krypton linen magenta neon ochre pastel"
_THINGS = (
    "bronze|granite|rope|glass beads|oak barrels|cheese|lamp oil|honey|carpets|paper|brick|iron nails|wool cloth|tar"
)
_PLACES = "Uppsala|Krakow|Valencia|Bremen|Dublin|Tartu|Coimbra|Verona|Salzburg|Leuven|Antwerp|Riga|Seville|Geneva|York"
_COLOURS = "dark green|pale blue|scarlet|ochre|violet|silver grey|lemon yellow|chestnut brown|turquoise|white|black"
_ANIMALS = "heron|stag|salmon|wolf|beaver|raven|lynx|tortoise|falcon|bull|hare|otter|bear|swan"
_KINDS = "project|team|station|society|museum|harbour office|academy|valley|district|workshop"


def _key(draw: random.Random, form: Form) -> str:
    name = draw.choice(_STEMS.split()) + draw.choice(_ENDS.split())
    way = draw.random()
    if form.values in ("code", "word") and way < 0.6:
        return f"{draw.choice(_WORDS.split())}-{draw.choice(_ENDS.split())}{draw.choice(['', str(draw.randrange(9))])}"
    if way < 0.3:
        return f"the {name} {draw.choice(_KINDS.split('|'))}"
    return name if way < 0.7 else f"{name} {draw.choice('House Abbey Works Hall Island College'.split())}"


def _value(draw: random.Random, kind: str) -> str:
    if kind == "code":
        return str(draw.randrange(10 ** draw.randrange(3, 7), 10 ** draw.randrange(7, 9)))
    if kind == "year":
        return str(draw.randrange(1100, 2020))
    if kind == "small":
        return str(draw.randrange(2, 400))
    if kind == "person":
        return f"{draw.choice(_FIRST.split())} {draw.choice(_LAST.split())}"
    if kind == "word":
        return f"{draw.choice(_WORDS.split())}{draw.randrange(10, 100)}"
    return draw.choice({"thing": _THINGS, "place": _PLACES, "colour": _COLOURS, "animal": _ANIMALS}[kind].split("|"))
