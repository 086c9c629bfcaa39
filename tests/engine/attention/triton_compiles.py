"""Compiles the kernels that read documents for cards this machine need not have, run by `test_triton` as a script.

The interpreter accepts what the compiler does not, and knows nothing of a card's limits.
"""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from longleaf.engine.attention.triton.decode import _decode_kernel
from longleaf.engine.attention.triton.prefill import _prefill_kernel

NUMBERS = {"query", "keys", "values", "out"}
POINTERS = {"table", "lengths", "pages", "counts", "places", "done", "blocks"}
SHARED = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}
"""Bytes of shared memory that a program may have, by compute capability."""


def kind(name, dtype):
    if name in NUMBERS:
        return f"*{dtype}"
    if name in POINTERS:
        return "*i32"
    return {"partial": "*fp32", "stats": "*fp32", "scale": "fp32"}.get(name, "i32")


def compiles(kernel, capability, dtype, warps, **constants):
    names = [parameter.name for parameter in kernel.params]
    source = ASTSource(
        kernel,
        {name: "constexpr" if name in constants else kind(name, dtype) for name in names},
        {(names.index(name),): value for name, value in constants.items()},
    )
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"num_warps": warps})
    assert made.metadata.shared <= SHARED[capability], made.metadata.shared


def main():
    decode = {"PAGE": 32, "HEADS": 3, "GROUP": 3, "GROUP_TILE": 16, "TILE": 64, "PLACED": False, "STAGES": 3}
    for capability, dtype, head, splits, planned in (
        (90, "bf16", 64, 64, True),
        (90, "fp32", 64, 1, False),
        (89, "bf16", 256, 64, False),
    ):
        warps = 2 if planned else 4
        compiles(_decode_kernel, capability, dtype, warps, **decode, HEAD=head, SPLITS=splits, PLANNED=planned)
    prefill = {"HEADS": 9, "GROUP": 3, "KEYS": 64, "SIZE": 128, "QUERIES": 128}
    for capability, dtype, head, listed, stages in (
        (90, "bf16", 64, True, 3),
        (89, "bf16", 128, False, 1),
        (80, "fp16", 64, True, 3),
    ):
        warps = 8 if head >= 128 else 4
        compiles(_prefill_kernel, capability, dtype, warps, **prefill, HEAD=head, LISTED=listed, STAGES=stages)
    sys.stdout.write("all compile\n")


if __name__ == "__main__":
    main()
