"""Small worlds in which people walk about, take things and leave them: facts that only together answer, in their order.

After bAbI's tasks 1 to 3 (Weston et al., 2015), with more names, places, things and wordings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

_PEOPLE = (
    "Mary John Daniel Sandra Fred Bill Julie Jeff Anna Omar Lucy Peter Hanna Victor Nadia Paul Erika Samuel Ines Leo"
)
_PLACES = (
    "kitchen bathroom bedroom garden hallway office cellar attic library stable workshop garage balcony chapel shed"
)
_THINGS = "football milk apple lantern book key basket violin letter hammer map umbrella coin rope candle spoon hat"
_WENT = "went to|went back to|journeyed to|travelled to|moved to|walked to|ran to|returned to"
_TOOK = "picked up|got|took|grabbed"
_LEFT = "dropped|put down|left|discarded"

Kind = Literal["person", "thing", "before"]


@dataclass(frozen=True, slots=True)
class Event:
    """What one sentence tells: who did what, with which thing or to which place."""

    sentence: str
    person: str
    act: Literal["went", "took", "left"]
    what: str


@dataclass(frozen=True, slots=True)
class Story:
    """Events in their order and a question about the end of them. `helpful` are the places of those that help."""

    events: tuple[Event, ...]
    kind: Kind
    question: str
    answer: str
    supporting: tuple[int, ...]

    def helpful(self, first: int, last: int) -> list[int]:
        """Of the events `[first, last)`, those a reader should note who has not read on."""
        if self.kind == "person":
            moves = [
                place
                for place in range(first, last)
                if self._is(place, "went", self.events[self.supporting[-1]].person)
            ]
            return moves[-1:]
        thing = next(event.what for event in self.events if event.act == "took" and event.what in self.question)
        noted: set[int] = set()
        latest: dict[str, int] = {}
        for place in range(first, last):
            event = self.events[place]
            if event.act == "went":
                if self.kind == "before":
                    noted.add(place)
                latest[event.person] = place
            elif event.what == thing:
                noted.add(place)
                if event.person in latest:
                    noted.add(latest[event.person])
        return sorted({*noted, *latest.values()})

    def _is(self, place: int, act: str, person: str) -> bool:
        return self.events[place].act == act and self.events[place].person == person


def story(draw: random.Random, kind: Kind, length: int) -> Story:
    """A story of at most `length` events whose end answers a question of this kind."""
    while True:
        made = _try(draw, kind, length)
        if made is not None:
            return made


def _try(draw: random.Random, kind: Kind, length: int) -> Story | None:
    people = draw.sample(_PEOPLE.split(), draw.randrange(2, 5))
    places = draw.sample(_PLACES.split(), 6)
    things = draw.sample(_THINGS.split(), draw.randrange(1, 4))
    at: dict[str, str] = {}
    lies = {thing: draw.choice(places) for thing in things}
    held: dict[str, str] = {}
    events: list[Event] = []
    track: dict[str, list[tuple[str, int, int]]] = {thing: [] for thing in things}  # place, move, take or drop
    moved: dict[str, int] = {}
    taken: dict[str, int] = {}
    for number in range(length):
        person = draw.choice(people)
        here = [thing for thing in things if thing not in held and at.get(person) == lies[thing]]
        mine = [thing for thing, holder in held.items() if holder == person]
        if here and draw.random() < 0.7:
            thing = draw.choice(here)
            held[thing] = person
            taken[thing] = number
            if not track[thing]:
                track[thing].append((at[person], moved[person], number))
            events.append(_event(draw, person, "took", thing))
        elif mine and draw.random() < 0.25:
            thing = draw.choice(mine)
            del held[thing]
            lies[thing] = at[person]
            events.append(_event(draw, person, "left", thing))
        else:
            place = draw.choice([place for place in places if place != at.get(person)])
            at[person], moved[person] = place, number
            for thing in mine:
                track[thing].append((place, number, taken[thing]))
            events.append(_event(draw, person, "went", place))
    if kind == "person":
        known = [person for person in people if person in at]
        who = draw.choice(known)
        return Story(tuple(events), kind, f"Where is {who}?", at[who], (moved[who],))
    known = [thing for thing in things if len(track[thing]) >= (2 if kind == "before" else 1)]
    if not known:
        return None
    thing = draw.choice(known)
    if kind == "thing":
        place, move, act = track[thing][-1]
        return Story(tuple(events), kind, f"Where is the {thing}?", place, tuple(sorted({move, act})))
    (before, earlier, act), (place, move, _) = track[thing][-2:]
    if [step[0] for step in track[thing]].count(place) > 1:
        return None  # "before the garden" would be said of two visits
    question = f"Where was the {thing} before the {place}?"
    return Story(tuple(events), kind, question, before, tuple(sorted({earlier, move, act})))


def _event(draw: random.Random, person: str, act: Literal["went", "took", "left"], what: str) -> Event:
    said = draw.choice({"went": _WENT, "took": _TOOK, "left": _LEFT}[act].split("|"))
    there = " there" if act != "went" and draw.random() < 0.2 else ""
    return Event(f"{person} {said} the {what}{there}.", person, act, what)
