"""Instruments that judge a set of texts, and noise to plant: none is what a selector optimises.

All are functions of the texts alone. A set is its texts in the order given, each followed by a
newline; compressors see the whole of it at once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import zstandard

VERSION: Final = 1  # of every number below; results under another version are measured again
SHINGLE_BYTES: Final = 8  # one uint64: sets of shingles are exact, nothing is hashed
SIMILAR: Final = 0.8
MIB: Final = 2**20


def joined(texts: Sequence[bytes]) -> bytes:
    """The set as one string."""
    return b"".join(text + b"\n" for text in texts)


def xz_bytes(data: bytes) -> int:
    """Size under xz preset 9e with a dictionary larger than the data, 64 MiB at least."""
    dictionary = max(64 * MIB, 1 << (len(data) + 1).bit_length())
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}
    ]
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))


def zstd_bytes(data: bytes) -> int:
    """Size under zstd level 19 with a window of 128 MiB and long-distance matching."""
    how = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    return len(zstandard.ZstdCompressor(compression_params=how).compress(data))


def trigrams_per_mb(texts: Sequence[bytes]) -> float:
    """Thousands of distinct runs of three words (lower case, inside one text) per 10⁶ bytes."""
    vocabulary: dict[str, int] = {}
    runs = []
    for text in texts:
        words = re.findall(r"\w+", text.decode().lower())
        codes = np.fromiter(
            (vocabulary.setdefault(word, len(vocabulary)) for word in words), np.int64, len(words)
        )
        runs.append((codes[:-2] << 42) | (codes[1:-1] << 21) | codes[2:])
    assert len(vocabulary) < 2**21
    return len(np.unique(np.concatenate(runs))) / sum(map(len, texts)) * 1e3


def shingles(text: bytes) -> np.ndarray:
    """The distinct runs of 8 bytes of a text, lower case and white space as one space, sorted."""
    plain = " ".join(text.decode().lower().split()).encode().ljust(SHINGLE_BYTES, b"\0")
    runs = np.lib.stride_tricks.sliding_window_view(np.frombuffer(plain, np.uint8), SHINGLE_BYTES)
    return np.unique(np.ascontiguousarray(runs).view(np.uint64).ravel())


def near_duplicates(texts: Sequence[bytes], similarity: float = SIMILAR) -> np.ndarray:
    """All pairs of texts whose sets of 8-byte runs have so large a Jaccard similarity. `(p, 2)`."""
    return pairs_alike([shingles(text) for text in texts], similarity)


def pairs_alike(sets: Sequence[np.ndarray], similarity: float = SIMILAR) -> np.ndarray:
    """All pairs of sets, none empty, with a Jaccard similarity this large. `(p, 2)`.

    Exact: with a set's shingles from rare to common, two sets this similar share one among the
    first n - ⌈similarity · n⌉ + 1 of each (prefix filtering, Chaudhuri et al. 2006; Bayardo et
    al. 2007); every such pair is then counted.
    """
    sizes = np.array([len(s) for s in sets])
    owner = np.repeat(np.arange(len(sets)), sizes)
    _, token, counts = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    order = np.lexsort((token, counts[token], owner))
    place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    prefix = sizes - np.ceil(similarity * sizes - 1e-9).astype(np.int64) + 1
    kept = order[(place < prefix[owner]) & (counts[token[order]] > 1)]
    # By token, in a token by size of the set: partners are the next ones while sizes allow.
    kept = kept[np.lexsort((sizes[owner[kept]], token[kept]))]
    tokens, owners = token[kept], owner[kept]
    found = []
    at = np.arange(len(kept))
    step = 1
    while len(at):
        at = at[at + step < len(kept)]
        at = at[tokens[at] == tokens[at + step]]
        small, large = owners[at], owners[at + step]
        fits = sizes[small] >= similarity * sizes[large] - 1e-9
        at, small, large = at[fits], small[fits], large[fits]
        pairs = np.minimum(small, large) * len(sets) + np.maximum(small, large)
        found.append(np.unique(pairs))
        step += 1
    candidates = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    out = []
    members: dict[int, frozenset[int]] = {}
    for pair in candidates.tolist():
        a, b = divmod(pair, len(sets))
        for i in (a, b):
            if i not in members:
                members[i] = frozenset(sets[i].tolist())
        both = len(members[a] & members[b])
        if both >= similarity * (sizes[a] + sizes[b] - both) - 1e-9:
            out.append((a, b))
    return np.array(out, np.int64).reshape(-1, 2)


def entropy_bits(counts: np.ndarray) -> float:
    """Shannon entropy of a histogram, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def xz_ratios(texts: Sequence[bytes], planted: np.ndarray) -> dict[str, float]:
    """Ratio under xz of a set, and of the set without its planted noise."""
    data = joined(texts)
    clean = joined([text for text, noise in zip(texts, planted, strict=True) if not noise])
    return {
        "xz_ratio": len(data) / xz_bytes(data),
        "xz_ratio_clean": len(clean) / xz_bytes(clean),
    }


def measure(
    texts: Sequence[bytes], planted: np.ndarray, held_out: Sequence[bytes], cache: Path
) -> dict[str, float]:
    """What every instrument says of a set; found again by content in the folder `cache`.

    Args:
        texts: The set, in the order to be read.
        planted: True on texts that are planted noise; one ratio is taken without them.
        held_out: Texts of the same kind that nobody chose.
        cache: Where results are kept.
    """
    data, more = joined(texts), joined(held_out)
    key = hashlib.blake2b(b"\0".join((data, more, planted.tobytes())), digest_size=16)
    file = cache / f"{key.hexdigest()}.v{VERSION}.json"
    if file.exists():
        return json.loads(file.read_text())
    ratios = xz_ratios(texts, planted)
    pairs = near_duplicates(texts)
    out = {
        "samples": len(texts),
        "bytes": len(data),
        "mean_bytes": len(data) / len(texts),
        **ratios,
        "zstd_ratio": len(data) / zstd_bytes(data),
        "zlib_ratio": len(data) / len(zlib.compress(data, 9)),
        "held_out_xz_bytes": xz_bytes(data + more) - round(len(data) / ratios["xz_ratio"]),
        "trigrams_k_per_mb": trigrams_per_mb(texts),
        "near_duplicate_rows": len(np.unique(pairs)),
        "near_duplicate_pairs": len(pairs),
    }
    cache.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".part").write_text(json.dumps(out))
    file.with_suffix(".part").replace(file)
    return out


# -- noise -----------------------------------------------------------------------------------------

_KEY_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890")
_ACCENTS: Final = str.maketrans("aeiounc'\"-", "áéîöüñç’“–")  # noqa: RUF001 - what mojibake mangles
_NOT_IN_CP1252: Final = {0xDC00 + byte: byte for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}

Make = Callable[[int, np.random.Generator], str]


def base64_solid(n: int, rng: np.random.Generator) -> str:
    """Random base64 in one piece."""
    return base64.b64encode(rng.bytes(n)).decode()


def base64_spaced(n: int, rng: np.random.Generator) -> str:
    """Random base64 in words of 4 to 12 characters."""
    return _spaced(base64_solid(n, rng), rng.integers(4, 13, size=n))


def keyboard_mash(n: int, rng: np.random.Generator) -> str:
    """Half the words random letters in lengths of 2 to 10, half runs along a row of keys."""
    words, size = [], 0
    while size < n:
        length = int(rng.integers(2, 11))
        if rng.random() < 0.5:
            word = "".join(chr(97 + c) for c in rng.integers(0, 26, size=length))
        else:
            row = _KEY_ROWS[rng.integers(len(_KEY_ROWS))]
            start = int(rng.integers(len(row)))
            word = "".join(row[(start + i) % len(row)] for i in range(length))
        words.append(word)
        size += length + 1
    return " ".join(words)


def word_salad(vocabulary: Sequence[str]) -> Make:
    """Words drawn one by one from running text: its frequencies without its order."""

    def make(n: int, rng: np.random.Generator) -> str:
        words, size = [], 0
        while size < n:
            words.append(vocabulary[rng.integers(len(vocabulary))])
            size += len(words[-1].encode()) + 1
        return " ".join(words)

    return make


def mojibake(texts: Sequence[str]) -> Make:
    """Real texts whose UTF-8 was read as Latin-1 or Windows-1252, twice.

    A text with under 2 % of characters beyond ASCII, which would survive that, is given accents
    and typographic marks on a quarter of `aeiounc'"-` first.
    """

    def make(n: int, rng: np.random.Generator) -> str:
        out = ""
        codec = ("latin-1", "cp1252")[rng.integers(2)]
        while len(out.encode()) < n:
            text = texts[rng.integers(len(texts))]
            start = int(rng.integers(max(1, len(text) - n)))
            text = text[start : start + n]
            if sum(c > "\x7f" for c in text) < 0.02 * len(text):
                touched = rng.random(len(text)) < 0.25
                text = "".join(
                    c.translate(_ACCENTS) if t else c for c, t in zip(text, touched, strict=True)
                )
            for _ in range(2):
                text = text.encode().decode(codec, "surrogateescape").translate(_NOT_IN_CP1252)
            out += text + "\n"
        return out

    return make


def _spaced(text: str, lengths: np.ndarray) -> str:
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends]
    return " ".join(text[a:b] for a, b in zip(starts, ends, strict=False) if text[a:b])


def cut(text: str, n: int) -> str:
    """The first n bytes, a character that would be cut in two left out."""
    return text.encode()[:n].decode(errors="ignore")


def kinds(vocabulary: Sequence[str], texts: Sequence[str]) -> dict[str, Make]:
    """Every kind of noise: a function from bytes wanted to a text at least about that long."""
    return {
        "base64": base64_solid,
        "base64 spaced": base64_spaced,
        "word salad": word_salad(vocabulary),
        "keyboard mash": keyboard_mash,
        "mojibake": mojibake(texts),
    }


def quarter_octaves(n_bytes: np.ndarray) -> np.ndarray:
    """Bins of length: four to a doubling."""
    return np.floor(4 * np.log2(np.maximum(n_bytes, 1))).astype(np.int64)


def matched(cells: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn with the histogram over `cells` that `chosen` has, in random order.

    Args:
        cells: Cell of each row that may be drawn, -1 for those that may not, `(n,)`.
        chosen: Rows to be like.
        rng: Random numbers.
    """
    wanted = np.bincount(cells[chosen], minlength=int(cells.max()) + 1)
    shuffled = rng.permutation(np.flatnonzero(cells >= 0))
    by_cell = shuffled[np.argsort(cells[shuffled], kind="stable")]
    ordered = cells[by_cell]
    place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return rng.permutation(by_cell[place < wanted[ordered]])
