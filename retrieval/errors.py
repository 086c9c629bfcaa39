"""What can be wrong with a document."""

from longleaf.engine.errors import LongleafError


class DocumentError(LongleafError):
    """A file cannot become a document; the message names the file, the reason and what to do."""
