"""What can be wrong with a question or the reader it is put to."""

from longleaf.engine.errors import LongleafError


class ReaderUnknown(LongleafError):
    """No reader has that name."""


class QuestionEmpty(LongleafError):
    """There is nothing to answer."""


class NothingToRead(LongleafError):
    """The library, or the choice of documents, is empty."""


class RunEnded(LongleafError):
    """A run that is done cannot be resumed."""


class RunStopped(LongleafError):
    """The reader of a run went away; it is recorded as interrupted and can be resumed."""
