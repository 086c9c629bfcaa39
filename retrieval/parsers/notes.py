"""Footnotes of an HTML tree, moved behind the paragraph that refers to them.

A note is found by the pair of links that connects it to its reference: `<a id=r href=#n>` in the text and,
in the element that holds `n`, `<a href=#r>` back. Notes kept in another file (a book's endnotes) stay where
they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from longleaf.retrieval.parsers.canonical import collapse
from longleaf.retrieval.parsers.markup import local_name

if TYPE_CHECKING:
    from lxml.etree import _Element

HOLDERS: Final = frozenset({"p", "li", "div", "aside", "dd", "td"})
PARAGRAPHS: Final = frozenset({"p", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "table", "dl", "ul", "ol"})
TITLES: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
INSIDE: Final = frozenset({"li", "dd", "div", "section", "td", "th", "body", "dt"})
MARK: Final = re.compile(r"[\[(]?(?:\d{1,3}|[a-z]|[*†‡§¶#]{1,3})[\])]?", re.IGNORECASE)


def move_notes(root: _Element) -> None:
    """Moves each note of `root` behind the block that first refers to it."""
    targets = {name: element for element in root.iter() for name in _names(element)}
    moved: set[_Element] = set()
    last: dict[_Element, _Element] = {}
    for reference in [element for element in root.iter() if local_name(element) == "a"]:
        note = _note(reference, targets)
        # The link back in a note points to a paragraph, which is no note.
        if note is None or note[0] in moved or moved.intersection(reference.iterancestors()):
            continue
        moved.update(note)
        place = _block(reference)
        behind = last.get(place, place)
        for element in note:
            _detach(element)
            behind = _insert(element, place, behind)
        last[place] = behind


def _note(reference: _Element, targets: dict[str, _Element]) -> list[_Element] | None:
    """The elements of the note `reference` points to: one, or a term and its definition."""
    link = reference.get("href") or ""
    own = {name for element in (reference, reference.getparent()) if element is not None for name in _names(element)}
    target = targets.get(link[1:]) if link.startswith("#") else None
    if target is None or not own or not MARK.fullmatch(collapse("".join(reference.itertext()))):
        return None
    ancestors = set(reference.iterancestors())
    holder: _Element | None = target
    while holder is not None and holder not in ancestors and holder is not reference:
        name = local_name(holder)
        if name == "dt":
            pair = holder.getnext()
            found = [holder] if pair is None or local_name(pair) != "dd" else [holder, pair]
        else:
            found = [holder]
        if name in HOLDERS | {"dt"} and any(_links_back(element, own) for element in found):
            return None if any(local_name(item) in TITLES for item in holder.iter()) else found
        holder = holder.getparent()
    return None


def _links_back(element: _Element, names: set[str]) -> bool:
    return any((link.get("href") or "")[1:] in names for link in element.iter() if local_name(link) == "a")


def _names(element: _Element) -> list[str]:
    if not isinstance(element.tag, str):
        return []
    return [name for name in (element.get("id"), element.get("name")) if name]


def _block(reference: _Element) -> _Element:
    """The paragraph-like element or the table row around `reference`."""
    found = reference
    for ancestor in reference.iterancestors():
        name = local_name(ancestor)
        if name == "tr":
            return ancestor
        if found is reference and (name in PARAGRAPHS or name in INSIDE):
            found = ancestor
    return found


def _detach(element: _Element) -> None:
    parent, before = element.getparent(), element.getprevious()
    if parent is None:
        return
    if element.tail:
        if before is not None:
            before.tail = (before.tail or "") + element.tail
        else:
            parent.text = (parent.text or "") + element.tail
        element.tail = None
    parent.remove(element)


def _insert(element: _Element, place: _Element, behind: _Element) -> _Element:
    """Puts the note behind `behind`, and returns what the next note of `place` goes behind."""
    if behind is place and local_name(place) in INSIDE:
        # To the end of a list item or a section, which keeps it whole.
        place.append(element)
        return element
    if local_name(place) == "tr":
        row, cell = place.makeelement("tr"), place.makeelement("td")
        cell.append(element)
        row.append(cell)
        element = row
    parent = behind.getparent()
    if parent is not None:
        element.tail, behind.tail = behind.tail, None
        parent.insert(parent.index(behind) + 1, element)
    return element
