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


class BudgetTooSmall(LongleafError):
    """A part of a document, with what goes around it, does not fit what the model is given."""


class SchemaUnknown(LongleafError):
    """No schema of a structured memory has that name."""


class DocumentChanged(LongleafError):
    """A document was read anew or removed after a run on it began; the run cannot go on."""


class TooFewReaders(LongleafError):
    """A comparison needs two readers."""


class CapabilityMissing(LongleafError):
    """The model cannot do what a reader needs of it."""
