"""The script that a text is written in: Latin, Cyrillic, Han, …"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.text.buffers import utf8

if TYPE_CHECKING:
    from didact.core.arrays import UInt8s

# Blocks of letters, first and last code point; signs and digits that all scripts share are of none,
# and a script that is not here has no letters. Our own and fixed, so that scripts do not change
# with the Unicode version of an interpreter.
_BLOCKS: Final = {
    "Latin": ((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6),
              (0xF8, 0x2AF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF),
              (0xAB30, 0xAB6F), (0xFB00, 0xFB06), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A)),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Armenian": ((0x531, 0x588), (0xFB13, 0xFB17)),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F)),
    "Hebrew": ((0x591, 0x5F4), (0xFB1D, 0xFB4F)),
    "Arabic": ((0x610, 0x61A), (0x620, 0x65F), (0x66E, 0x6FF), (0x750, 0x77F), (0x870, 0x8FF),
               (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "Syriac": ((0x700, 0x74F), (0x860, 0x86F)),
    "Thaana": ((0x780, 0x7BF),),
    "NKo": ((0x7C0, 0x7FF),),
    "Devanagari": ((0x900, 0x97F), (0xA8E0, 0xA8FF)),
    "Bengali": ((0x980, 0x9FF),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Odia": ((0xB00, 0xB7F),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Kannada": ((0xC80, 0xCFF),),
    "Malayalam": ((0xD00, 0xD7F),),
    "Sinhala": ((0xD80, 0xDFF),),
    "Thai": ((0xE01, 0xE3A), (0xE40, 0xE4E)),
    "Lao": ((0xE80, 0xEFF),),
    "Tibetan": ((0xF40, 0xFBC),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    "Ethiopic": ((0x1200, 0x139F), (0x2D80, 0x2DDF), (0xAB00, 0xAB2F)),
    "Cherokee": ((0x13A0, 0x13FF), (0xAB70, 0xABBF)),
    "Canadian": ((0x1400, 0x167F), (0x18B0, 0x18FF)),
    "Khmer": ((0x1780, 0x17D3),),
    "Mongolian": ((0x1820, 0x18AF),),
    "Tifinagh": ((0x2D30, 0x2D7F),),
    "Kana": ((0x3041, 0x309F), (0x30A1, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D),
             (0x1AFF0, 0x1B16F)),
    "Bopomofo": ((0x3105, 0x312F), (0x31A0, 0x31BF)),
    "Han": ((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
            (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
    "Coptic": ((0x2C80, 0x2CFF),),
    "Ol Chiki": ((0x1C50, 0x1C7F),),
    "Meetei Mayek": ((0xAAE0, 0xAAFF), (0xABC0, 0xABFF)),
    "Javanese": ((0xA980, 0xA9DF),),
    "Balinese": ((0x1B00, 0x1B7F),),
    "Sundanese": ((0x1B80, 0x1BBF),),
    "Adlam": ((0x1E900, 0x1E95F),),
    "Yi": ((0xA000, 0xA4CF),),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
}  # fmt: skip
NONE: Final = 0
SCRIPTS: Final = ("no letters", *_BLOCKS)
_LATIN: Final = SCRIPTS.index("Latin")
_KANA, _HAN = SCRIPTS.index("Kana"), SCRIPTS.index("Han")


def script_of(texts: pa.LargeStringArray) -> UInt8s:
    """The script that most of each text's letters are in, by their bytes.

    Japanese is written in two: a text in which a tenth of the ideographs' bytes is kana is Kana.

    Args:
        texts: `n` texts.

    Returns:
        uint8 `(n,)`, numbers of `SCRIPTS`; 0 where a text has no letter of any of them.

    **Cost:** 2 ns a byte of ASCII, 20 ns a byte of other text.
    """
    out = np.zeros(len(texts), np.uint8)
    if texts.null_count:
        texts = texts.fill_null("")
    plain = pc.string_is_ascii(texts)
    ascii_letters = pc.match_substring_regex(texts, "[A-Za-z]").to_numpy(zero_copy_only=False)
    plain = plain.to_numpy(zero_copy_only=False)
    out[plain & ascii_letters] = _LATIN
    rest = np.flatnonzero(~plain)
    if len(rest):
        out[rest] = _script_of(texts.take(pa.array(rest)))
    return out


def _script_of(texts: pa.LargeStringArray) -> UInt8s:
    data, offsets = utf8(texts)
    points = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), "<u4")
    begins = np.flatnonzero(data & 0xC0 != 0x80)
    width = np.diff(begins, append=len(data))
    text = np.searchsorted(offsets, begins, side="right") - 1
    at = text * len(SCRIPTS) + _table()[points]
    shape = (len(texts), len(SCRIPTS))
    found = np.bincount(at, width, shape[0] * shape[1]).reshape(shape)
    found[:, NONE] = 0
    most = found.argmax(axis=1)
    most[(most == _HAN) & (found[:, _KANA] > 0.1 * found[:, _HAN])] = _KANA
    return np.where(found.any(axis=1), most, NONE).astype(np.uint8)


@cache
def _table() -> UInt8s:
    """Script of each code point."""
    scripts = np.zeros(0x110000, np.uint8)
    for number, blocks in enumerate(_BLOCKS.values(), 1):
        for first, last in blocks:
            scripts[first : last + 1] = number
    return scripts
