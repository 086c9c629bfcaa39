"""Reading a follow-up question against the conversation: "and in 1972?", "what about the north?", "who built it?".

In code and from the question's form alone. A question that stands on its own stays exactly as it was asked, and so does
one whose meaning cannot be told for certain. The 135M default model rewrites such questions worse than these rules do
(docs/memory.md), so it is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from longleaf.agents.mention import (
    AUXILIARIES,
    DETERMINERS,
    FEMALE,
    FUNCTION_WORDS,
    MALE,
    POSSESSIVES,
    PREPOSITIONS,
    QUESTION_WORDS,
    Mention,
    is_plural,
    mentions,
)

_TURNS_LOOKED_AT = 3
_FRAGMENT_WORDS = 6
_SHORT_WORDS = 4

_LEAD = re.compile(
    r"(?:(?:and|but|or|so|also|plus)\b[,\s]*)?(?:(?:what|how) about\b|what of\b|and\b)?\s*", re.IGNORECASE
)
_AND = re.compile(r"(?:and|but|or|so|also|plus)\b[,\s]*", re.IGNORECASE)
_BARE = re.compile(
    r"(?:why|when|where|who|how|which)(?: not| so| exactly| many| much| long| often| far| ones?)?|"
    r"since when|until when|by whom|for whom|with whom",
    re.IGNORECASE,
)
_BARE_THAT = re.compile(
    r"(why|when|where|how) (?:is|was|did|does) (?:that|this)(?: so| happen| the case)?", re.IGNORECASE
)
_OPENED = re.compile(rf"(when|where|why|how)\s+(?=(?:{'|'.join(sorted(AUXILIARIES))})\b)", re.IGNORECASE)

_PRONOUN = re.compile(
    r"\b(he|him|his|she|her|hers|it|its|they|them|their|there|that year|the same year)\b", re.IGNORECASE
)
_MASCULINE = frozenset(("he", "him", "his"))
_FEMININE = frozenset(("she", "her", "hers"))
_MANY = frozenset(("they", "them", "their"))
_THINGS_MEANT = frozenset(("it", "they", "them", "he", "she", "him", "there"))
_POINTING = frozenset(("this", "that", "these", "those", *POSSESSIVES))
_OWNED = frozenset(("his", "its", "their"))

# How a question may open before its question word: "and ", "on which ".
_OPENING = re.compile(r"(?:(?:and|but|or|so|also|plus)\b[,\s]*)?(?:[a-z]+ (?=which\b))?(?:which\b)?", re.IGNORECASE)

# "it" that stands for nothing: "is it possible to", "does it take long to", "what time is it".
_EMPTY_IT = re.compile(
    r"\bit\b(?:\s+[\w'-]+){0,4}?\s+(?:that|(?:for\s+\w+\s+)?to\s+(?!the\b|an?\b|[A-Z]))|"
    r"\btime is it\b|\bit (?:rain|snow)",
)
_PATH = re.compile(r"(?<![\w/])/[\w./-]*\w")
_EXISTS = re.compile(r"\b(?:is|are|was|were|be|been)\s+there\b|\bthere\s+(?:is|are|was|were)\b", re.IGNORECASE)
# What comes behind one of these may bind a pronoun within the question.
_CLAUSE = re.compile(r"(?<!^)\b(?:who|that|which|if|when|while|because|and|whose)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier turn: the question as it was read, the answer, and the quotes behind it."""

    question: str
    answer: str = ""
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A question as it is read. `rule` names what changed it, empty where it stays as it was asked."""

    text: str
    rule: str = ""


def resolve(question: str, past: Sequence[Past]) -> Resolved:
    """`question` made to stand alone against the turns before it, oldest first; as it is where it does already."""
    asked = " ".join(question.split())
    if not past or not asked:
        return Resolved(question)
    for rule, read in (("ellipsis", _ellipsis), ("pronoun", _pronoun)):
        text = read(asked, past[-_TURNS_LOOKED_AT:])
        if text is not None and text.casefold() != asked.casefold():
            return Resolved(text, rule)
    return Resolved(question)


# What is left out


def _ellipsis(asked: str, past: Sequence[Past]) -> str | None:
    before = past[-1].question.strip()
    body = asked.rstrip("?!. ")
    lead = _LEAD.match(body)
    given = body[lead.end() :] if lead else body
    bare = _BARE_THAT.fullmatch(given) or _BARE.fullmatch(given)
    if bare:
        return _more(bare.group(1) if bare.re is _BARE_THAT else given, before)
    words = given.casefold().split()
    if not 0 < len(words) <= _FRAGMENT_WORDS or set(words) & (AUXILIARIES | QUESTION_WORDS | _THINGS_MEANT):
        return None
    marked = given != body
    if words[0] in PREPOSITIONS and len(words) > 1:
        short = len(words) <= _SHORT_WORDS and asked.endswith("?")
        return _other_place(given, before) if marked or short else None
    if marked and words[0] in POSSESSIVES:
        return _pronoun(f"What {'are' if is_plural(words[-1]) else 'is'} {given}?", past)
    return _other_thing(given, before) if marked else None


def _more(word: str, before: str) -> str | None:
    """A bare question word: "Where?" after "When was the king crowned?"."""
    stem = before.rstrip("?!. ")
    opened = _OPENED.match(stem)
    simple = word.casefold() in ("when", "where", "why", "how")
    if opened and simple:
        return f"{word.capitalize()} {stem[opened.end() :]}?"
    if simple and stem.split()[0].casefold() in AUXILIARIES:
        return f"{word.capitalize()} {stem[0].lower()}{stem[1:]}?"
    return f"{stem}, and {word.casefold()}?"


def _other_place(given: str, before: str) -> str | None:
    """A phrase with a preposition takes the place of one like it, or is added."""
    preposition, _, thing = given.partition(" ")
    new = _only(thing)
    timed = new is not None and new.kind == "time"
    known = mentions(before)
    if new is not None and new.kind == "path":
        paths = list(_PATH.finditer(before))
        if len(paths) == 1:  # "and in /opt?" after "What is the /boot directory for?"
            return _swap(before, paths[0].start(), paths[0].end(), thing)
    for old in reversed(known):
        if old.after == preposition.casefold() and (old.kind == "time") == timed:
            return _swap(before, old.start, old.whole, thing)
    if timed:
        for old in known:
            if old.kind == "time" and old.after in PREPOSITIONS:
                start = before.casefold().rindex(old.after, 0, old.start)
                return _swap(before, start, old.end, given)
    return f"{before.rstrip('?!. ')} {given}?"


def _other_thing(given: str, before: str) -> str | None:
    """A thing takes the place of the thing most like it; where none is like it, nothing is guessed."""
    new = _only(given)
    if new is None:
        return None
    known = mentions(before)
    if new.kind == "time":
        old = next((item for item in known if item.kind == "time"), None)
        return _swap(before, old.start, old.end, given) if old else f"{before.rstrip('?!. ')} in {given}?"
    ranked = [(_likeness(new, item), place, item) for place, item in enumerate(known)]
    best = max(ranked, key=lambda item: item[:2], default=(0, 0, None))
    if best[2] is None or best[0] < 1:
        return None
    end = best[2].whole if " of " in given else best[2].end
    return _swap(before, best[2].start, end, given)


def _likeness(new: Mention, old: Mention) -> int:
    """How well `new` fits where `old` stands; below 1 it does not."""
    if old.kind == "time":
        return 0
    if new.kind == "path":
        return 3 if "/" in old.text else 0
    if new.kind == old.kind == "name":
        return 3
    if "name" in (new.kind, old.kind):
        return int(old.place or old.person or new.place)
    return _noun_likeness(new, old)


def _noun_likeness(new: Mention, old: Mention) -> int:
    if new.head == old.head:
        return 4
    for one, other in ((new.direction, old.direction), (new.person, old.person)):
        if one and other:
            return 3
        if (one or other) and not (new.bare and old.bare):
            return 0
    if new.bare != old.bare:
        return 0
    return 2 if new.plural == old.plural else 1


def _only(phrase: str) -> Mention | None:
    """The one thing a phrase names; a bare word is read as if it stood behind a preposition."""
    found = mentions(f"of {phrase}")
    if not found or found[0].start != len("of "):
        return None
    return found[0] if found[0].whole == len("of ") + len(phrase) else None


def _swap(text: str, start: int, end: int, given: str) -> str:
    stem = f"{text[:start]}{given}{text[end:]}".rstrip("?!. ")
    return f"{stem}?"


# What a pronoun stands for


def _pronoun(asked: str, past: Sequence[Past]) -> str | None:
    found = _PRONOUN.search(asked)
    if found is None or not _free(asked, found):
        return None
    word = found.group().casefold()
    for turn in reversed(past):
        stands = _antecedent(word, turn)
        if stands is not None:
            break
    else:
        return None
    text = asked
    for each in reversed(list(re.finditer(rf"\b{re.escape(found.group())}\b", asked))):
        text = text[: each.start()] + _put(word, asked, each.end(), stands) + text[each.end() :]
    text = _AND.sub("", text, count=1) if _AND.match(text) else text
    return text[0].upper() + text[1:]


def _free(asked: str, found: re.Match[str]) -> bool:
    """Whether a pronoun stands for nothing in its own question."""
    word, before = found.group().casefold(), asked[: found.start()]
    if word == "it" and _EMPTY_IT.search(asked):
        return False
    if word == "there" and (_EXISTS.search(asked) or re.match(r"\s+(?:is|are|was|were)\b", asked[found.end() :])):
        return False
    start = _OPENING.match(asked).end()  # type: ignore[union-attr]
    if _CLAUSE.search(asked, start + 1, found.start()):
        return False
    held = mentions(before)
    if word == "there":
        return not any(item.kind == "name" or item.place for item in held)
    if word in _MASCULINE | _FEMININE:
        held = [item for item in held if not item.plural]
    last = before.split()[-1].casefold() if before.split() else ""
    asking = re.search(r"(?:^|\s)(\w+\s)?(?:which|what|how many) [a-z]", before, re.IGNORECASE)
    subject = last in AUXILIARIES
    if subject and asking:  # "On which river does it lie?": what is asked for is not what "it" is
        return not [item for item in held if item.after not in ("which", "what", "many")]
    return not held and not (asking and word not in ("it", "them", "him"))


def _antecedent(word: str, turn: Past) -> str | None:
    """What a pronoun stands for in one earlier turn, or None where that cannot be told."""
    asked = mentions(turn.question)
    said = turn.answer
    if not any(item.kind in ("name", "path") for item in mentions(said)):
        # A heading has capitals that name nothing; a sentence may be trusted.
        said = next((quote for quote in turn.quotes[:1] if quote.rstrip().endswith(".")), said)
    answered = [item for item in mentions(said) if item.text.split()[0].casefold() not in _POINTING]
    held = {each for item in asked for each in item.text.casefold().split()}
    fresh = [item for item in answered if not held & (set(item.text.casefold().split()) - FUNCTION_WORDS)]
    opening = turn.question.split()[0].casefold() if turn.question.split() else ""
    if word in ("that year", "the same year"):
        return next((item.text for item in (*answered, *asked) if item.kind == "time"), None)
    best = next(iter(_choices(word, opening, asked, answered, fresh)), None)
    if best is None:
        return None
    source = turn.question if any(best is item for item in asked) else said
    text = source[best.start : best.whole]
    return text[0].lower() + text[1:] if best.kind == "noun" else text


def _choices(
    word: str, opening: str, asked: list[Mention], answered: list[Mention], fresh: list[Mention]
) -> Iterable[Mention]:
    """Candidates, best first."""
    if word in _MASCULINE | _FEMININE:
        wrong = FEMALE if word in _MASCULINE else MALE

        def fits(item: Mention) -> bool:
            return not set(item.text.casefold().split()) & wrong and not item.plural

        if opening in ("who", "whose"):
            yield from (item for item in fresh if item.kind == "name" and fits(item))
        yield from (item for item in asked if item.person and fits(item))
        yield from (item for item in answered if item.person and fits(item))
        yield from (item for item in asked if item.kind == "name" and item.after not in PREPOSITIONS and fits(item))
    elif word in _MANY:
        yield from (item for item in asked if item.plural)
        yield from (item for item in answered if item.plural and not item.text[0].isdigit())
        yield from (item for item in asked if item.kind == "name")
    elif word == "there":
        named = [item for item in fresh if item.kind in ("name", "path") and not item.initial and not item.person]
        if opening in ("what", "which", "where"):
            yield from named
        yield from (item for item in named if item.after in ("in", "at", "near", "into", "to"))
        yield from (item for item in asked if item.kind == "name" and item.after in ("in", "at", "of", "near", "to"))
        yield from (item for item in asked if item.place)
    else:
        yield from _single(opening, asked, fresh)


def _single(opening: str, asked: list[Mention], fresh: list[Mention]) -> Iterable[Mention]:
    """What "it" may be: the new name where the question asked which, else what the question was about."""
    named = [item for item in fresh if item.kind in ("name", "path") and not item.person and not item.initial]
    # "What is /opt for?" is about what it names; "what is the capital of X?" asks for a name.
    subject = any(item.kind in ("name", "path") and item.after not in PREPOSITIONS for item in asked)
    if opening in ("what", "which") and not subject:
        yield from named
    yield from (item for item in asked if item.kind != "time" and not item.person and not item.plural)
    yield from named


def _put(word: str, asked: str, end: int, stands: str) -> str:
    """The words that take the pronoun's place."""
    following = asked[end:].strip(" ?!.").split()
    owner = word in _OWNED or (
        word == "her"
        and bool(following)
        and following[0].casefold() not in PREPOSITIONS | AUXILIARIES | DETERMINERS | {"and", "or"}
    )
    if owner or word == "hers":
        return f"{stands}'" if is_plural(stands.casefold()) else f"{stands}'s"
    if word in ("there", "that year", "the same year"):
        return f"in {stands}"
    return stands
