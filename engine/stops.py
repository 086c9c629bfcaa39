"""Finds stop strings in text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Lets text through as soon as it cannot be part of a stop string.

    The first stop string to be complete ends the text; where two are complete at the same character, the
    longer one. How the text was cut into pieces makes no difference.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Take the next piece; returns what may be shown. After a match, all else is dropped."""
        if self.matched is not None:
            return ""
        self._held += text
        match = self._first_match()
        if match is not None:
            start, self.matched = match
            shown, self._held = self._held[:start], ""
            return shown
        keep = self._undecided()
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """The text that was held back, now that no more comes."""
        shown, self._held = self._held, ""
        return shown

    def _first_match(self) -> tuple[int, str] | None:
        found = [(start, stop) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        return min(found, key=lambda match: (match[0] + len(match[1]), match[0]), default=None)

    def _undecided(self) -> int:
        """Length of the longest end of the held text that a stop string starts with."""
        return max((_overlap(self._held, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
