"""Every technique, by name. One file and one line here add another; see docs/adding-a-technique.md."""

from __future__ import annotations

from typing import Any

from longleaf.engine.attention.contract import Axis, Technique
from longleaf.engine.attention.eviction import keydiff, snapkv
from longleaf.engine.attention.policies import (
    a_shape,
    dense,
    flexprefill,
    head_split,
    infllm,
    landmark,
    page_mass,
    quest,
    reused,
    squeezed,
    tokenselect,
    trianglemix,
    two_level,
    vertical_slash,
    voted,
)
from longleaf.engine.attention.positions import clipped, dimensions, dual_chunk, packed, self_extend, true
from longleaf.engine.attention.summary import gaussian, lowrank, mean, minmax, twolevel

TECHNIQUES: tuple[Technique, ...] = (
    minmax.TECHNIQUE,
    mean.TECHNIQUE,
    lowrank.TECHNIQUE,
    gaussian.TECHNIQUE,
    twolevel.TECHNIQUE,
    a_shape.TECHNIQUE,
    vertical_slash.TECHNIQUE,
    flexprefill.TECHNIQUE,
    trianglemix.TECHNIQUE,
    dense.TECHNIQUE,
    quest.TECHNIQUE,
    page_mass.TECHNIQUE,
    landmark.TECHNIQUE,
    two_level.TECHNIQUE,
    tokenselect.TECHNIQUE,
    infllm.TECHNIQUE,
    voted.TECHNIQUE,
    squeezed.TECHNIQUE,
    reused.TECHNIQUE,
    head_split.TECHNIQUE,
    true.TECHNIQUE,
    clipped.TECHNIQUE,
    self_extend.TECHNIQUE,
    dual_chunk.TECHNIQUE,
    dimensions.TECHNIQUE,
    packed.TECHNIQUE,
    snapkv.TECHNIQUE,
    keydiff.TECHNIQUE,
)


def techniques(axis: Axis | None = None) -> tuple[Technique, ...]:
    """All techniques, or those of one axis, in the order of the registry."""
    return tuple(technique for technique in TECHNIQUES if axis in (None, technique.axis))


def make(name: str, **settings: Any) -> Any:
    """A technique by its name. Raises `ValueError` for a name that is not registered."""
    for technique in TECHNIQUES:
        if technique.name == name:
            return technique.build(**settings)
    raise ValueError(f"no technique {name!r}; there are {', '.join(technique.name for technique in TECHNIQUES)}")
