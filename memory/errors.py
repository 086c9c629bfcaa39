"""What can be wrong with a library's state."""

from longleaf.engine.errors import LongleafError


class LibraryBusy(LongleafError):
    """Another process is writing to the library; the message names it and says what to do."""


class IndexStale(LongleafError):
    """The vector index does not fit what asks for it; `longleaf index --rebuild` makes it anew from SQL."""


class LibraryMissing(LongleafError):
    """There is no library at the given path."""


class DocumentMissing(LongleafError):
    """No document, or more than one, goes by the given id."""


class RunMissing(LongleafError):
    """No run, or more than one, goes by the given id."""


class ConversationMissing(LongleafError):
    """No conversation, or more than one, goes by the given id."""


class FactMissing(LongleafError):
    """No fact, or more than one, goes by the given id."""


class FactUnsupported(LongleafError):
    """A fact's document does not hold its quote at its span, so it is not kept."""


class DatabaseUnusable(LongleafError):
    """A database or a Chroma server cannot be used: damaged, full, out of reach, or of a newer Longleaf."""
