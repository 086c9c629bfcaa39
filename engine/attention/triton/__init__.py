"""Sparse attention on a GPU in Triton kernels: `attend.TritonAttend` and the parts it is made of.

Imported on purpose only, for it needs triton, which comes with PyTorch's CUDA builds. Every launch has a shape that
depends on capacities alone and waits for nothing on the host, so all of it can be captured in a CUDA graph.
"""

from longleaf.engine.errors import MissingExtra

try:
    import triton as _triton  # noqa: F401
except ImportError as missing:
    raise MissingExtra(
        "sparse attention on a GPU needs triton, which is not installed; add it with pip install 'longleaf[gpu]'"
    ) from missing
