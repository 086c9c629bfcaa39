"""The engine room: models behind one contract.

`contract` says what a backend is; `backends/` holds torch, OpenAI-compatible and scripted ones; `store` gets
models and keeps them. Nothing here imports another room, and the torch backend needs only torch,
transformers, numpy and safetensors, so that it runs on a bare GPU host.
"""

from longleaf.engine.backends.open import open_engine
from longleaf.engine.contract import (
    Done,
    Engine,
    Event,
    Failed,
    Grammar,
    Message,
    ModelCard,
    Request,
    Sampling,
    Scores,
    ScoresContext,
    Token,
    Usage,
    complete,
)
from longleaf.engine.errors import (
    EngineFailed,
    LongleafError,
    MissingExtra,
    ModelNotFound,
    NotCalibrated,
    Stopped,
    WindowExceeded,
)
from longleaf.engine.store import InstalledModel, ModelStore

__all__ = [
    "Done",
    "Engine",
    "EngineFailed",
    "Event",
    "Failed",
    "Grammar",
    "InstalledModel",
    "LongleafError",
    "Message",
    "MissingExtra",
    "ModelCard",
    "ModelNotFound",
    "ModelStore",
    "NotCalibrated",
    "Request",
    "Sampling",
    "Scores",
    "ScoresContext",
    "Stopped",
    "Token",
    "Usage",
    "WindowExceeded",
    "complete",
    "open_engine",
]
