"""Numbers and foreign text as a person reads them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_UNITS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTE_UNITS: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
# Controls, line and paragraph separators, bidi embeddings, overrides and isolates, tags, BOM.
# Joiners and directional marks stay: scripts and emoji need them, and a block isolates them.
_BIDI: Final = frozenset(range(0x202A, 0x202F)) | frozenset(range(0x2066, 0x206A))
_HIDDEN: Final = _BIDI | {0x2028, 0x2029, 0xFEFF, 0x00AD} | frozenset(range(0xE0000, 0xE0080))
NONE: Final = "\u2013"  # en dash
MINUS: Final = "\u2212"
NAME_WIDTH: Final = 120  # of ids and sources


def count(value: float | None) -> str:
    """A whole number with thousands marks: 153,961."""
    return NONE if value is None else f"{round(value):,}"


def compact(value: float | None) -> str:
    """Three digits and a unit: 28.4M, 5.12k, 937."""
    if value is None:
        return NONE
    for size, unit in _UNITS:
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.0f}{unit}" if scaled == int(scaled) else f"{_digits(scaled, 3)}{unit}"
    return f"{value:.0f}" if value == int(value) else _digits(value, 3)


def percent(share: float | None) -> str:
    """A share of 1 as a percentage: 20.0%, 0.04%; 0% and 100% only when they are exact."""
    if share is None:
        return NONE
    value = 100 * share
    if value in {0, 100}:
        return f"{value:.0f}%"
    if abs(value) < 0.005:
        return "<0.01%" if value > 0 else ">-0.01%"
    text = f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    return f"{text if text != '100.0' else '>99.9'}%"


def change(before: float, after: float) -> str:
    """The difference of two shares in percentage points, with its sign: +3.2, or minus 0.14."""
    value = 100 * (after - before)
    if abs(value) < 0.005:
        return "±0"
    text = f"{abs(value):.2f}" if abs(value) < 1 else f"{abs(value):.1f}"
    return f"{'+' if value > 0 else MINUS}{text}"


def number(value: float | None) -> str:
    """A score: four significant digits, exponents only where they are shorter."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    return f"{_digits(value, 4)}"


def seconds(value: float | None) -> str:
    """A duration: 0.42 s, 12.3 s, 3 min 20 s, 2 h 5 min."""
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def byte_size(value: float | None) -> str:
    """Bytes in binary units: 118 MiB."""
    if value is None:
        return NONE
    for size, unit in _BYTE_UNITS:
        if value >= size:
            return f"{_digits(value / size, 3)} {unit}"
    return f"{value:,.0f} B"


def scale(values: Sequence[float], *, as_percent: bool = False) -> list[str]:
    """The ticks of one axis, all with as many decimals as their distance needs."""
    factor, unit = (100.0, "%") if as_percent else (1.0, "")
    largest = max((abs(v) for v in values), default=0)
    if not as_percent and largest >= 1e4:
        size, unit = next((s, u) for s, u in _UNITS if largest >= s)
        factor = 1 / size
    shown = [factor * v for v in values]
    gap = min((b - a for a, b in pairwise(shown)), default=0)
    digit = math.floor(math.log10(gap) + 1e-9) if gap else _last_digit(shown[0] if shown else 0)
    if digit < -5:
        significant = math.floor(math.log10(largest)) - digit
        return [f"{v:.{max(significant, 0)}e}" for v in shown]
    # Zero needs no unit of thousands, but a share of nothing is 0%.
    return [f"{v:,.{max(-digit, 0)}f}{unit}" if v or as_percent or not unit else "0" for v in shown]


def _last_digit(value: float) -> int:
    """Place of the last digit that is not zero, of six: 0 for 3, -1 for 3.5."""
    shown = f"{value:.5e}"
    digits = shown[: shown.index("e")].replace(".", "").lstrip("-").rstrip("0")
    return int(shown[shown.index("e") + 1 :]) - max(len(digits) - 1, 0)


def _digits(value: float, significant: int) -> str:
    """Rounded to significant digits, in plain notation, with thousands marks."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{significant - 1}e}")  # 0.99999 has the digits of 1
    magnitude = math.floor(math.log10(abs(rounded)))
    return f"{value:,.{max(significant - 1 - magnitude, 0)}f}"


def visible(text: str) -> str:
    """The text with its invisible and direction-changing characters shown.

    They become their code in brackets: what overrides the direction of a line must not do so in
    the report. Line feeds and tabs stay; so do joiners.
    """
    if text.isprintable():  # false for every character below; spares the loop for most texts
        return text
    return "".join(_shown(c) for c in text)


def _shown(char: str) -> str:
    code = ord(char)
    if char in "\n\t" or (char.isprintable() and code not in _HIDDEN):
        return char
    nothing = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # never a character
    if code in _HIDDEN or nothing or unicodedata.category(char) in {"Cc", "Cs"}:
        return f"\u2039U+{code:04X}\u203a"  # in single angle quotation marks
    return char


def shorten(text: str, width: int) -> str:
    """At most `width` columns (East Asian wide characters take two), cut at the end with '…'."""
    used = 0
    for i, char in enumerate(text):
        used += 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
        if used > width:
            return f"{text[: max(i - 1, 0)]}…"
    return text


def source_name(name: str) -> str:
    """A source's name as the report writes it."""
    return shorten(name, NAME_WIDTH) or "(no source)"


def signed(value: float | None) -> str:
    """A number with its sign, three digits."""
    return NONE if value is None else f"{value:+.3g}".replace("-", MINUS)
