"""Errors a user can do something about. Every room raises subclasses of `LongleafError`."""


class LongleafError(Exception):
    """Base of all errors Longleaf raises on purpose.

    The message says what happened, to which document or setting, and the command or setting that fixes it.
    """


class ModelNotFound(LongleafError):
    """No source had the model: not a local path, not on the hub, not on the package index."""


class WindowExceeded(LongleafError):
    """A prompt does not fit the model's window."""


class EngineFailed(LongleafError):
    """A model call failed. `transient` says whether trying again can help (rate limit, lost connection)."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class NotCalibrated(LongleafError):
    """It is not known which attention heads of a model find answers; `longleaf models calibrate` measures it."""


class Stopped(LongleafError):
    """The caller asked a call to stop, and it did."""


class MissingExtra(LongleafError):
    """An optional part is not installed; the message holds the `pip install` that adds it."""


class PagesFull(LongleafError):
    """The page store has no room for more keys and values; it stays as it was before the call."""


class SegmentDamaged(LongleafError):
    """A file of kept keys and values is torn or changed. It counts as missing, so what it held is computed again."""


class FingerprintMismatch(LongleafError):
    """Keys and values were kept by another model, or in another way, than the one that asks for them."""
