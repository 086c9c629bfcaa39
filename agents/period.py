"""`Period`: what a question says about when something was asked, as bounds on a time column and an order.

After "Toward Conversational Agents with Context and Time Sensitive Long-term Memory": time and order are looked up in a
table, never left to similarity. Words such as "yesterday" always count. Dates, "before" and "first" count only where
the question is about the conversation itself ("what did I ask ..."), since a document has dates of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from longleaf.memory.facts import Order

_SAID = r"(?:ask|answer|say|said|tell|told|talk|discuss|find|found|look)\w*"
_OURS = re.compile(
    rf"\b(?:(?:i|we|you)\s+(?:(?:have|had|already|just|ever|first|last)\s+)*{_SAID}"
    rf"|(?:did|have|had)\s+(?:i|we|you)\s+(?:\w+\s+)?{_SAID}"
    r"|my\s+(?:\w+\s+)?(?:questions?|answers?)|our\s+(?:\w+\s+)?(?:conversations?|talks?|chats?))\b",
    re.IGNORECASE,
)
_FIRST = re.compile(r"\b(?:first|at the (?:start|beginning)|oldest|earliest)\b", re.IGNORECASE)
_AGO = re.compile(
    r"\b(?:(\d+|an?|one|two|three|four|five|six|seven|ten) (minute|hour|day|week|month|year)s? ago)\b", re.IGNORECASE
)
_WITHIN = re.compile(
    r"\b(?:in|over|within|during)?\s*the (?:last|past) (?:(\d+|two|three|four|five|six|seven|ten) )?"
    r"(minute|hour|day|week|month|year)s?\b",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(today|yesterday|(?:last|this) (?:week|month|year))\b", re.IGNORECASE)
_DATE = re.compile(r"\b(before|after|since|until|on)?\s*(\d{4})-(\d{2})-(\d{2})\b", re.IGNORECASE)
_EVENT = re.compile(
    r"\b(before|after)\s+(?:i asked\s+|the (?:question|one)\s+)?(?:about\s+|on\s+)?(.+?)[?.!]*$", re.IGNORECASE
)
_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "ten": 10,
}  # fmt: skip
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


@dataclass(frozen=True, slots=True)
class Period:
    """Asked at or after `since` and before `until`, in this order. `ours`: the question is about what was asked.

    `rest` is the question without its words of time.
    """

    since: datetime | None = None
    until: datetime | None = None
    order: Order = "newest"
    ours: bool = False
    rest: str = ""

    @property
    def bounded(self) -> bool:
        return self.since is not None or self.until is not None


Moment = Callable[[str], datetime | None]
"""When something was asked about, by its words; None where it never was."""


def period(question: str, now: datetime, moment: Moment = lambda words: None) -> Period:
    """The period a question speaks of; unbounded where it speaks of none.

    `now` has the user's time zone: days begin at midnight there, weeks on Monday. "Last week" is the calendar week
    before this one, "the last week" and "the past week" are the seven days up to now. `moment` finds when what stands
    behind "before" or "after" was asked about.
    """
    ours = _OURS.search(question) is not None
    found = _relative(question, now)
    if found is None and ours:
        found = _dated(question, now) or _event(question, moment)
    since, until, words = found or (None, None, "")
    first = ours and _FIRST.search(question)
    rest = question.replace(words, " ") if words else question
    rest = _OURS.sub(" ", _FIRST.sub(" ", rest)) if ours else rest
    return Period(since, until, "oldest" if first else "newest", ours, " ".join(rest.split()))


_Bounds = tuple[datetime | None, datetime | None, str]


def _relative(question: str, now: datetime) -> _Bounds | None:
    if (match := _AGO.search(question)) is not None:
        return _ago(match, now)
    if (match := _WITHIN.search(question)) is not None:
        return now - _span(match.group(1), match.group(2)), None, match.group()
    match = _NAMED.search(question)
    if match is None:
        return None
    words = match.group().casefold()
    today = _midnight(now.date(), now)
    if words in ("today", "yesterday"):
        start = today if words == "today" else _midnight(now.date() - timedelta(days=1), now)
        return start, (None if words == "today" else today), match.group()
    which, unit = words.split()
    this, before = _start(now, unit), _start(now, unit, back=1)
    return (this, None, match.group()) if which == "this" else (before, this, match.group())


def _ago(match: re.Match[str], now: datetime) -> _Bounds:
    """A day long where days are counted, a week where weeks are; shorter units get one unit either side."""
    count, unit = match.group(1), match.group(2).casefold()
    at = now - _span(count, unit)
    if unit in ("minute", "hour"):
        around = _span("1", unit)
        return at - around, at + around, match.group()
    start = _midnight(at.date(), now)
    around = timedelta(days=_DAYS[unit] // 2)
    return start - around, _midnight(at.date() + timedelta(days=1), now) + around, match.group()


def _dated(question: str, now: datetime) -> _Bounds | None:
    match = _DATE.search(question)
    if match is None:
        return None
    try:
        day = date(int(match.group(2)), int(match.group(3)), int(match.group(4)))
    except ValueError:
        return None
    start, end = _midnight(day, now), _midnight(day + timedelta(days=1), now)
    word = (match.group(1) or "on").casefold()
    bounds: dict[str, tuple[datetime | None, datetime | None]] = {
        "before": (None, start),
        "until": (None, end),
        "after": (end, None),
        "since": (start, None),
        "on": (start, end),
    }
    return *bounds[word], match.group()


def _event(question: str, moment: Moment) -> _Bounds | None:
    match = _EVENT.search(question)
    at = moment(match.group(2)) if match else None
    if match is None or at is None:
        return None
    if match.group(1).casefold() == "before":
        return None, at, match.group()
    return at + timedelta(microseconds=1), None, match.group()


def _span(count: str | None, unit: str) -> timedelta:
    number = _NUMBERS.get((count or "one").casefold()) or int(count or 1)
    unit = unit.casefold()
    if unit in ("minute", "hour"):
        return timedelta(**{f"{unit}s": number})
    return timedelta(days=number * _DAYS[unit])


def _start(now: datetime, unit: str, back: int = 0) -> datetime:
    """Midnight at which this week, month or year began, or the one `back` before."""
    day = now.date()
    if unit == "week":
        return _midnight(day - timedelta(days=day.weekday() + 7 * back), now)
    if unit == "year":
        return _midnight(date(day.year - back, 1, 1), now)
    months = day.year * 12 + day.month - 1 - back
    return _midnight(date(months // 12, months % 12 + 1, 1), now)


def _midnight(day: date, now: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)
