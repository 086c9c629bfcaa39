"""Pages as bytes: as they are, or in 8 or 4 bits a number.

Keys have a few channels that are large for every token, so they are scaled per channel; values are scaled per token
(KIVI, Liu et al., 2024). A scale serves one head of one page. What is stored of a layer of a page is a record; the
numbers of pages are written `[..., 2, kv_heads, page, head_size]`, keys before values.
"""

from __future__ import annotations

from typing import Literal

import torch

from longleaf.engine.pages.shape import PageShape

Format = Literal["exact", "int8", "int4"]
FORMATS: tuple[Format, ...] = ("exact", "int8", "int4")

_LARGEST_HALF = 65504.0
_SMALLEST_STEP = 2.0**-24  # the least float16 above zero, so that a channel of equal numbers divides by something


def record_bytes(shape: PageShape, stored: Format) -> int:
    """Bytes of one layer of a page in this format: the numbers, and float16 lows and steps where it has them."""
    if stored == "exact":
        return shape.layer_bytes
    codes = shape.layer_numbers if stored == "int8" else shape.layer_numbers // 2
    scales = 2 * shape.kv_heads * (shape.head_size + shape.page)
    return codes + 2 * scales


def encode(pages: torch.Tensor, stored: Format) -> torch.Tensor:
    """Records uint8 `[..., record_bytes]` of pages `[..., 2, kv_heads, page, head_size]`, on the same device.

    Numbers beyond float16's 65,504 become that where they are quantised.
    """
    lead = pages.shape[:-4]
    if stored == "exact":
        return pages.contiguous().view(torch.uint8).reshape(*lead, -1)
    levels = 255 if stored == "int8" else 15
    parts: list[torch.Tensor] = []
    scales: list[torch.Tensor] = []
    for side, along in ((0, -2), (1, -1)):
        numbers = pages[..., side, :, :, :].to(torch.float32, copy=True).clamp_(-_LARGEST_HALF, _LARGEST_HALF)
        # Codes count from the low as it is stored, so rounding it to float16 adds no error of its own.
        low = numbers.amin(dim=along, keepdim=True).half()
        step = ((numbers.amax(dim=along, keepdim=True) - low.float()) / levels).clamp(min=_SMALLEST_STEP).half()
        codes = numbers.sub_(low.float()).div_(step.float()).round_().clamp_(0, levels).to(torch.uint8)
        parts.append(codes.flatten(start_dim=-3))
        scales += [low.flatten(start_dim=-3), step.flatten(start_dim=-3)]
    codes = torch.cat(parts, dim=-1)
    if stored == "int4":
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return torch.cat([torch.cat(scales, dim=-1).view(torch.uint8), codes], dim=-1)


def decode(records: torch.Tensor, shape: PageShape, stored: Format) -> torch.Tensor:
    """Pages `[..., 2, kv_heads, page, head_size]` of records uint8 `[..., record_bytes]`, on the same device."""
    lead = records.shape[:-1]
    numbers = (2, shape.kv_heads, shape.page, shape.head_size)
    if stored == "exact":
        return records.contiguous().view(shape.dtype).view(*lead, *numbers)
    keys, values = shape.kv_heads * shape.head_size, shape.kv_heads * shape.page
    scales = records[..., : 4 * (keys + values)].contiguous().view(torch.float16).float()
    key_low, key_step, value_low, value_step = torch.split(scales, [keys, keys, values, values], dim=-1)
    codes = records[..., 4 * (keys + values) :]
    if stored == "int4":
        codes = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(start_dim=-2)
    codes = codes.reshape(*lead, *numbers)
    pages = torch.empty(*lead, *numbers, dtype=shape.dtype, device=records.device)
    per_channel = (*lead, shape.kv_heads, 1, shape.head_size)
    per_token = (*lead, shape.kv_heads, shape.page, 1)
    for side, low, step, size in ((0, key_low, key_step, per_channel), (1, value_low, value_step, per_token)):
        pages[..., side, :, :, :] = torch.addcmul(low.view(size), codes[..., side, :, :, :].float(), step.view(size))
    return pages
