"""`Mention`: what a question or an answer names, found by its form alone: names, paths, dates, noun phrases.

No tagger and no model: a few closed lists of English function words. What cannot be told for certain is not a mention,
because a follow-up that is read wrongly does more harm than one that is read as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["name", "path", "time", "noun"]

_TOKEN = re.compile(r"/[\w./-]*\w|\d[\d,.]*\d|\w[\w'’-]*|[^\w\s]")

DETERMINERS = frozenset("the a an this that these those each every all both some any no".split())
POSSESSIVES = frozenset("my your our his her its their whose".split())
BE = frozenset("is are was were be been being am".split())
DO = frozenset("do does did can could may might must shall should will would has have had".split())
AUXILIARIES = BE | DO
PREPOSITIONS = frozenset(
    "of in on at by for from to with without about into onto over under before after during since until till between "
    "among through against near within as per behind above below than via toward towards across".split()
)
QUESTION_WORDS = frozenset("what which who whom whose when where why how".split())
PRONOUNS = frozenset(
    "i you we he she it they me us him her them myself himself herself itself themselves one ones mine yours ours hers "
    "theirs there here anyone anybody someone somebody everyone nobody anything something everything nothing".split()
)
OTHERS = frozenset(
    "and or but not nor so if because that than then also else only just even ever never still yet too very much many "
    "more most less least few long old far often again now already up out down off away happen happens".split()
)
FUNCTION_WORDS = DETERMINERS | POSSESSIVES | AUXILIARIES | PREPOSITIONS | QUESTION_WORDS | PRONOUNS | OTHERS

_MONTHS = frozenset(
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday spring summer autumn winter".split()
)
_YEAR = re.compile(r"1\d{3}s?|20\d{2}s?|21\d{2}")
_IRREGULAR = frozenset(
    "built written made found born known held lost sold sent kept taken given done gone won begun broken chosen drawn "
    "driven fought grown heard hit hurt led left meant met paid put read run said seen shown shot shut spent spoken "
    "stolen taught told thrown understood worn bought brought caught cut fed felt set".split()
)
MALE = frozenset("king prince father son brother husband man boy mr sir lord duke emperor uncle".split())
FEMALE = frozenset(
    "queen princess mother daughter sister wife woman girl mrs ms miss lady duchess empress aunt".split()
)
_PERSON = (
    MALE
    | FEMALE
    | frozenset(
        "author writer president minister secretary treasurer director chairman chair captain doctor dr professor prof "
        "judge mayor governor general colonel bishop pope teacher student patient tenant landlord user owner founder "
        "inventor engineer manager employee employer worker farmer soldier child person people baby poet painter "
        "architect leader hero narrator defendant plaintiff speaker editor editors senator".split()
    )
)
_PLACE = frozenset(
    "city town village country island region river lake mountain valley street house building palace castle museum "
    "station port harbour school university hospital prison camp state province district continent planet north south "
    "east west coast library church bridge".split()
)
_DIRECTION = frozenset("north south east west left right top bottom inside outside".split())


@dataclass(frozen=True, slots=True)
class Mention:
    """Characters `[start, end)` of a text that name something.

    `whole` is where the phrase ends with what hangs on it by "of". `initial` marks a single capitalised word at the
    head of a sentence, which may be capitalised for that alone. `after` is the word before it, lower case.
    """

    start: int
    end: int
    whole: int
    text: str
    kind: Kind
    after: str
    initial: bool = False
    bare: bool = False

    @property
    def head(self) -> str:
        return self.text.split()[-1].casefold()

    @property
    def plural(self) -> bool:
        return self.kind == "noun" and (is_plural(self.head) or self.head in ("people", "children", "men", "women"))

    @property
    def person(self) -> bool:
        words = self.text.casefold().split()
        if self.kind == "noun":
            return singular(self.head) in _PERSON
        return self.kind == "name" and words[0].rstrip(".") in _PERSON

    @property
    def place(self) -> bool:
        return self.kind == "noun" and self.head in _PLACE

    @property
    def direction(self) -> bool:
        return self.head in _DIRECTION


def is_plural(word: str) -> bool:
    """Whether a lower-case word looks like a plural."""
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "ous"))


def singular(word: str) -> str:
    return word[:-1] if is_plural(word) else word


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    text: str
    low: str
    first: bool  # of its sentence


def mentions(text: str) -> list[Mention]:
    """What `text` names, in order; phrases do not overlap."""
    tokens = _tokens(text)
    found: list[Mention] = []
    place = 0
    while place < len(tokens):
        step = _time(text, tokens, place) or _name(text, tokens, place) or _noun(text, tokens, place)
        if step is None:
            place += 1
            continue
        mention, place = step
        found.append(mention)
    return _hung(text, found)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    first = True
    for match in _TOKEN.finditer(text):
        word = match.group()
        found.append(_Token(match.start(), match.end(), word, word.casefold(), first))
        first = word in ".!?"
    return found


def _before(tokens: list[_Token], place: int) -> str:
    return tokens[place - 1].low if place else ""


def _time(text: str, tokens: list[_Token], place: int) -> tuple[Mention, int] | None:
    """A year, a month or a weekday, with the figures beside it: "3 May 1921", "March", "the 1950s"."""
    end = place
    dated = False
    while end < len(tokens) and (
        _YEAR.fullmatch(tokens[end].low)
        or (tokens[end].low in _MONTHS and tokens[end].text[0].isupper() and not tokens[end].first)
        or (re.fullmatch(r"\d{1,2}(st|nd|rd|th)?", tokens[end].low) and end + 1 < len(tokens) and _dates(tokens, end))
    ):
        dated = dated or not re.fullmatch(r"\d{1,2}", tokens[end].low)
        end += 1
    if not dated:
        return None
    # A figure that counts something is no year: "1,950 people" is written with a comma, "in 1950" stands alone.
    start, stop = tokens[place].start, tokens[end - 1].end
    return Mention(start, stop, stop, text[start:stop], "time", _before(tokens, place)), end


def _dates(tokens: list[_Token], place: int) -> bool:
    near = [tokens[index].low for index in (place - 1, place + 1) if 0 <= index < len(tokens)]
    return any(word in _MONTHS for word in near)


def _capital(token: _Token) -> bool:
    return token.text[0].isupper() and token.low not in FUNCTION_WORDS


def _name(text: str, tokens: list[_Token], place: int) -> tuple[Mention, int] | None:
    """Capitalised words in a row, "of" and the like among them, or a path."""
    first = tokens[place]
    if first.text.startswith("/"):
        return Mention(first.start, first.end, first.end, first.text, "path", _before(tokens, place)), place + 1
    begin = place + 1 if first.low == "the" and place + 1 < len(tokens) else place
    if not _capital(tokens[begin]):
        return None
    end = begin + 1
    while end < len(tokens) and (
        _capital(tokens[end])
        or (tokens[end].low in ("of", "de", "von", "van") and end + 1 < len(tokens) and _capital(tokens[end + 1]))
    ):
        end += 1
    start, stop = tokens[place].start, tokens[end - 1].end
    alone = begin == place and first.first and end - begin == 1
    name = re.sub(r"['’]s?$", "", text[start:stop])
    return Mention(start, start + len(name), start + len(name), name, "name", _before(tokens, place), alone), end


def _lower_noun(token: _Token) -> bool:
    return token.text[0].isalpha() and token.low not in FUNCTION_WORDS


def _noun(text: str, tokens: list[_Token], place: int) -> tuple[Mention, int] | None:
    """A noun phrase: behind a determiner, or bare behind an auxiliary, a preposition, "how many" or "which"."""
    determined = tokens[place].low in DETERMINERS | POSSESSIVES
    lead = _before(tokens, place)
    bare = not determined and (lead in AUXILIARIES | PREPOSITIONS or lead in ("many", "which", "much"))
    if not determined and not bare:
        return None
    begin = place + 1 if determined else place
    end = begin
    while end < len(tokens) and (
        (_lower_noun(tokens[end]) or tokens[end].text.startswith("/")) and not tokens[end].low.endswith("'s")
    ):
        if end > begin and tokens[end].text[0].isupper():
            break
        end += 1
    end = _without_verb([token.low for token in tokens[begin:end]], lead, bare) + begin
    if end <= begin:
        return None
    if bare and not _bare_noun([token.low for token in tokens[begin:end]], lead):
        return None
    start, stop = tokens[place].start, tokens[end - 1].end
    return Mention(start, stop, stop, text[start:stop], "noun", lead, bare=bare), end


def _without_verb(words: list[str], lead: str, bare: bool) -> int:
    """How many of these words are the phrase; a verb may stand at their end."""
    if len(words) < 2:
        return 0 if bare and lead in DO and words else len(words)
    for count, word in enumerate(words[:-1], 1):
        if is_plural(word) and (lead in AUXILIARIES or bare):
            return count
    if lead in DO or words[-1] in _IRREGULAR or (words[-1].endswith("ed") and len(words[-1]) > 4):
        return len(words) - 1
    return 1 if lead in ("many", "much", "which") else len(words)


def _bare_noun(words: list[str], lead: str) -> bool:
    """Behind an auxiliary only a plural is surely a noun: "is hot" and "was crowned" are not."""
    if lead in AUXILIARIES:
        return is_plural(words[-1])
    return len(words) == 1 or is_plural(words[-1]) or lead in PREPOSITIONS


def _hung(text: str, found: list[Mention]) -> list[Mention]:
    """Each mention with the end of what hangs on it by "of"."""
    result: list[Mention] = []
    for mention in reversed(found):
        whole = mention.whole
        if result and re.fullmatch(r"\s+of\s+", text[mention.end : result[-1].start]):
            whole = result[-1].whole
        result.append(replace(mention, whole=whole))
    return result[::-1]
