"""`Line`: one printed line of a PDF page, with its place."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any, Final

FIXED_PITCH: Final = 1
# TeX sets no fixed-pitch flag.
TYPEWRITER: Final = re.compile(
    r"mono|courier|typewriter|cm(?:sl|i|b)?tt|lmtt|tctt|txtt|consol|menlo|fixed", re.IGNORECASE
)
HYPHENS: Final = "\ufffe\x02"
"""What pdfium writes for a hyphen at the end of a line, before it joins the next line to it."""
SAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Line:
    """Its characters and place in points, y upward; `size` is the font's. `hyphen`: the line ended in a
    hyphen, which `text` leaves out. `mono`: set in a typewriter face. `raised`: offsets of digits set as
    superscripts.
    """

    text: str
    left: float
    right: float
    y: float
    size: float
    mono: bool = False
    hyphen: bool = False
    raised: tuple[int, ...] = ()

    @property
    def letter(self) -> float:
        """Mean width of a character."""
        return (self.right - self.left) / max(1, len(self.text))


def read_lines(page: Any) -> list[Line]:
    """The lines of a pypdfium2 text page, in the order of the file; pieces of one printed row joined.

    Five characters of a line are measured: calls for each would cost ten times more.
    """
    lines: list[Line] = []
    start = 0
    whole = page.get_text_range()
    wide = any(letter > "\uffff" for letter in whole)
    for match in re.finditer(rf"\r\n|\n|\r|[{HYPHENS}]|\Z", whole):
        text = whole[start : match.start()]
        if text.strip():
            first = start + len(text) - len(text.lstrip())
            text = text.strip()
            offset = len(whole[:first].encode("utf-16-le", "surrogatepass")) // 2 if wide else first
            line = _measure(page, text, offset)
            if 0 in line.raised:
                # A footnote's mark, which touches its first word.
                text = re.sub(r"^(\d+)(?=[^\W\d_])", r"\1 ", line.text)
                line = replace(line, text=text, raised=(0,))
            lines.append(replace(line, hyphen=match.group() != "" and match.group() in HYPHENS))
        start = match.end()
    return join_rows(lines)


def _measure(page: Any, text: str, offset: int) -> Line:
    import pypdfium2.raw as pdfium

    printed = [at for at, letter in enumerate(text) if not letter.isspace()]
    shifts = [printed[(len(printed) - 1) * part // (SAMPLES - 1)] for part in range(SAMPLES)]
    places = [_place(page, text, offset, shift) for shift in shifts]
    first, last = pdfium.FS_RECTF(), pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(page, places[0], first)
    pdfium.FPDFText_GetLooseCharBox(page, places[-1], last)
    sizes = {place: _size(page, place) for place in places}
    size = median_low(sizes[place] for place in places)
    # Measured on a character of the line's own size: a superscript stands higher.
    height = _origin(page, next(place for place in places if sizes[place] == size))
    mono = all(_mono(page, place) for place in places)
    line = Line(text, first.left, max(first.left, last.right), height, size, mono)
    return replace(line, raised=_raised(page, text, offset, line)) if re.search(r"\d", text) else line


def _place(page: Any, text: str, offset: int, shift: int) -> int:
    """pdfium's number of character `shift` of `text`, which begins `offset` UTF-16 units into the page."""
    import pypdfium2.raw as pdfium

    units = shift if text.isascii() else len(text[:shift].encode("utf-16-le", "surrogatepass")) // 2
    return max(0, int(pdfium.FPDFText_GetCharIndexFromTextIndex(page, offset + units)))


def _origin(page: Any, place: int) -> float:
    """Height of a character's baseline, in points."""
    import pypdfium2.raw as pdfium

    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(page, place, x, y)
    return y.value


def _size(page: Any, place: int) -> float:
    """The font's size in points as printed, which the text matrix may scale."""
    import pypdfium2.raw as pdfium

    matrix = pdfium.FS_MATRIX()
    size: float = pdfium.FPDFText_GetFontSize(page, place)
    if not pdfium.FPDFText_GetMatrix(page, place, matrix):
        return size
    return float(size * (matrix.c**2 + matrix.d**2) ** 0.5)


def _mono(page: Any, place: int) -> bool:
    import pypdfium2.raw as pdfium

    flags = ctypes.c_int()
    name = ctypes.create_string_buffer(128)
    pdfium.FPDFText_GetFontInfo(page, place, name, 128, flags)
    return bool(flags.value > 0 and flags.value & FIXED_PITCH) or bool(
        TYPEWRITER.search(name.value.decode("utf-8", "replace"))
    )


def _raised(page: Any, text: str, offset: int, line: Line) -> tuple[int, ...]:
    """Offsets in `text` of digits that are smaller than the line and stand above its baseline."""
    found = []
    for match in re.finditer(r"(?<!\d)(?<!\d[.,])\d{1,3}(?!\d)", text):
        place = _place(page, text, offset, match.start())
        if _size(page, place) < 0.9 * line.size and _origin(page, place) > line.y + 0.15 * line.size:
            found.append(match.start())
    return tuple(found)


def join_rows(lines: list[Line]) -> list[Line]:
    """The lines, with neighbours in the list that stand beside each other on the page joined."""
    rows: list[Line] = []
    for found in lines:
        last = rows[-1] if rows else None
        wrapped = last is not None and _is_wrapped_mark(last, found)
        line = replace(found, size=last.size, raised=(0,)) if last is not None and wrapped else found
        if last is None or last.hyphen or not _beside(last, line):
            rows.append(line)
            continue
        big = max(last, line, key=lambda item: len(item.text))
        gap = "" if line.left - last.right < 0.1 * big.size and big.size == last.size else " "
        shift = len(last.text) + len(gap)
        raised = last.raised + tuple(at + shift for at in line.raised)
        if last.size < 0.9 * line.size and last.text.isdigit():
            raised = (0, *raised)
        elif line.size < 0.9 * last.size and line.text.isdigit():
            raised = (*raised, shift)
        rows[-1] = Line(
            last.text + gap + line.text,
            last.left,
            max(last.right, line.right),
            big.y,
            big.size,
            last.mono and line.mono,
            line.hyphen,
            raised,
        )
    return rows


def _is_wrapped_mark(last: Line, line: Line) -> bool:
    """Whether `line` is nothing but a footnote's mark, which did not fit on the line before."""
    lone = line.text.isdecimal() and len(line.text) <= 3 and line.size < 0.9 * last.size
    return lone and 0.5 * last.size < last.y - line.y < 1.6 * last.size


def _beside(last: Line, line: Line) -> bool:
    return abs(last.y - line.y) < 0.5 * max(last.size, line.size) and line.left > last.right - 0.2 * last.size
