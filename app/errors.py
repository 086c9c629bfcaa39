"""What can be wrong with how Longleaf was called."""

from longleaf.engine.errors import LongleafError


class SettingsInvalid(LongleafError):
    """A setting is unknown or has a value it cannot have; the message names where it came from."""
