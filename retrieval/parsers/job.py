"""`Job`: what a parser gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longleaf.retrieval.errors import DocumentError
from longleaf.retrieval.parsers.limits import DEFAULT_LIMITS, Limits

OnPage = Callable[[int, int], None]
"""Called with (pages done, pages in all)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file to read. `name` is its path, for messages; `skip` holds pages that must not be touched."""

    name: str
    data: bytes
    limits: Limits = DEFAULT_LIMITS
    ocr: bool = False
    skip: tuple[int, ...] = ()

    def refuse(self, reason: str, remedy: str) -> DocumentError:
        """The error to raise: which file, why, what to do."""
        return DocumentError(f"{self.name}: {reason}. {remedy}")

    def check_pages(self, count: int) -> None:
        if count > self.limits.pages:
            raise self.refuse(
                f"it has {count} pages, more than the {self.limits.pages} allowed",
                "Split the file, or raise Limits.pages.",
            )


def ignore_pages(done: int, total: int) -> None:
    """An `OnPage` that does nothing."""
