"""The memory room: what a library keeps, in SQL and in a vector index.

SQL is the record (`database`, `documents`, `runs`, `words`), the vector index is a cache that can be made
again from it (`vectors`, `consistency`), LangGraph's checkpoints lie in the same database (`checkpoints`).
`folder` says where things are, `lock` lets one process write at a time. Names are loaded on first use (PEP
562): importing this package loads neither SQLAlchemy nor chromadb nor LangGraph.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longleaf.memory.checkpoints import delete_thread, open_checkpointer
    from longleaf.memory.consistency import Reconciled, reconcile, reconcile_facts
    from longleaf.memory.conversations import Conversations
    from longleaf.memory.database import Database
    from longleaf.memory.documents import Documents
    from longleaf.memory.errors import (
        ConversationMissing,
        DatabaseUnusable,
        DocumentMissing,
        FactMissing,
        FactUnsupported,
        IndexStale,
        LibraryBusy,
        LibraryMissing,
        RunMissing,
    )
    from longleaf.memory.facts import Facts
    from longleaf.memory.folder import LibraryFolder
    from longleaf.memory.kv_assets import KvAssets
    from longleaf.memory.lock import WriterLock
    from longleaf.memory.questions import Questions
    from longleaf.memory.records import (
        ChunkRecord,
        ClaimRecord,
        ConversationRecord,
        DocumentRecord,
        FactRecord,
        HeadingRecord,
        KvAssetRecord,
        PageRecord,
        QuestionRecord,
        QuoteRecord,
        RunRecord,
        StepRecord,
        SummaryRecord,
        TextRecord,
        TurnRecord,
        chunk_id,
        text_version_id,
    )
    from longleaf.memory.runs import Runs
    from longleaf.memory.vectors import Vectors
    from longleaf.memory.words import Words

__all__ = [
    "ChunkRecord",
    "ClaimRecord",
    "ConversationMissing",
    "ConversationRecord",
    "Conversations",
    "Database",
    "DatabaseUnusable",
    "DocumentMissing",
    "DocumentRecord",
    "Documents",
    "FactMissing",
    "FactRecord",
    "FactUnsupported",
    "Facts",
    "HeadingRecord",
    "IndexStale",
    "KvAssetRecord",
    "KvAssets",
    "LibraryBusy",
    "LibraryFolder",
    "LibraryMissing",
    "PageRecord",
    "QuestionRecord",
    "Questions",
    "QuoteRecord",
    "Reconciled",
    "RunMissing",
    "RunRecord",
    "Runs",
    "StepRecord",
    "SummaryRecord",
    "TextRecord",
    "TurnRecord",
    "Vectors",
    "Words",
    "WriterLock",
    "chunk_id",
    "delete_thread",
    "open_checkpointer",
    "reconcile",
    "reconcile_facts",
    "text_version_id",
]

_HOMES = {
    "checkpoints": ("delete_thread", "open_checkpointer"),
    "consistency": ("Reconciled", "reconcile", "reconcile_facts"),
    "conversations": ("Conversations",),
    "database": ("Database",),
    "documents": ("Documents",),
    "errors": (
        "ConversationMissing",
        "DatabaseUnusable",
        "DocumentMissing",
        "FactMissing",
        "FactUnsupported",
        "IndexStale",
        "LibraryBusy",
        "LibraryMissing",
        "RunMissing",
    ),
    "facts": ("Facts",),
    "folder": ("LibraryFolder",),
    "kv_assets": ("KvAssets",),
    "lock": ("WriterLock",),
    "questions": ("Questions",),
    "records": (
        "ChunkRecord",
        "ClaimRecord",
        "ConversationRecord",
        "DocumentRecord",
        "FactRecord",
        "HeadingRecord",
        "KvAssetRecord",
        "PageRecord",
        "QuestionRecord",
        "QuoteRecord",
        "RunRecord",
        "StepRecord",
        "SummaryRecord",
        "TextRecord",
        "TurnRecord",
        "chunk_id",
        "text_version_id",
    ),
    "runs": ("Runs",),
    "vectors": ("Vectors",),
    "words": ("Words",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
