"""Longleaf answers questions about long documents with quotes checked against the page.

This room is the application: the SDK (`Library`), the command line, settings. Importing it is cheap:
names are loaded on first use (PEP 562), so `import longleaf` pulls in neither torch nor chromadb.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longleaf.agents.reader import Answer, Ask, Claim, Coverage, Quote
    from longleaf.engine.errors import LongleafError
    from longleaf.library import Library
    from longleaf.settings import Settings

__version__ = "0.1.0"

__all__ = ["Answer", "Ask", "Claim", "Coverage", "Library", "LongleafError", "Quote", "Settings", "__version__"]

_HOMES = {
    "Answer": "longleaf.agents.reader",
    "Ask": "longleaf.agents.reader",
    "Claim": "longleaf.agents.reader",
    "Coverage": "longleaf.agents.reader",
    "Quote": "longleaf.agents.reader",
    "Library": "longleaf.library",
    "LongleafError": "longleaf.engine.errors",
    "Settings": "longleaf.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'longleaf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
