"""Which samples of a pool are noise: no order of words, no spelling, or the wrong encoding.

No model, no list of a language's words: what is usual is read from the pool itself, and every word
is asked for what *it* does elsewhere. So a text is judged by its own language, however few others
are written in it, and where nothing is known of an alphabet nothing in it is noise.

A pair of neighboring words *attracts* as far as it occurs elsewhere more often than chance would
have its words meet. Words that keep company elsewhere are expected to keep it here: drawn at random
they do not. Words of which too little is known to say so are asked how they are spelled: in random
letters, keys and encoded bytes letters follow each other as they do in no language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.cost import Metered
from didact.core.protocols import Progress
from didact.text.noise.misdecoded import misdecoded
from didact.text.words import PlacedWords, place_words

if TYPE_CHECKING:
    import pyarrow as pa

    from didact.core.arrays import Int32s
    from didact.core.pool import Texts
    from didact.core.protocols import Context
    from didact.text.noise.kernel import Met, Text

R = TypeVar("R")
_Item = tuple[Int1D, Bool1D]  # rows of one batch, and which are counted
Work = Callable[[Any, _Item], Metered[R]]

# A text says little about itself before it is this long: so many bytes of a usual text, and so many
# nats of attraction, are counted with it.
PRIOR_BYTES: Final = 8
PRIOR_NATS: Final = 2.0
# What a letter is worth, in nats over a letter drawn from 36, in random spelling and in a
# language's: among words of English mash has -0.4 and less, Turkish and Vietnamese 0.2 and more.
RANDOM, SPELLED = -0.35, 0.2
# An alphabet is known when so many letters of it were met; unknown letters are worth `UNKNOWN`.
KNOWN_LETTERS: Final = 1000
UNKNOWN: Final = 1.0
_SMOOTH: Final = 20.0
_DRAWN_FROM: Final = 36
# Words are counted in at most this much text, so that memory has a bound.
_COUNTED_BYTES: Final = 2**27
_BUCKETS: Final = (2**16, 2**26)
_BYTES_PER_BUCKET: Final = 1.5  # a quarter of a word


def noisy(
    pool: Texts,
    rows: Int1D,
    strictness: float,
    ctx: Context,
) -> Bool1D:
    """Which samples are noise.

    A sample's score is the share of its bytes that holds together, 8 bytes that do counted with
    them: c · (1 - l · (1 - s)). c says what company its words keep,

        c = 1 - (E - A) / (E/4 + 3T/4 + 2), at most 1,

    with A the sum of its pairs' attractions in nats, E what its words have it be, and T the same of
    usual words. l is the share of its bytes that are in words of too few ties to have it be
    anything, and s says how these are spelled: 0 as at random, 1 as words in their alphabet are.
    Noise is what scores less than `strictness`, and what is misdecoded. Exact duplicates count
    once, and are all noise or none.

    Pairs are of words with nothing or one space between them; T counts other neighbors a quarter. A
    word ties by the mean attraction of the pairs that it is in elsewhere, at most that of all
    pairs. Spelling is learnt from words that were met twice, alphabet by alphabet; of an alphabet
    that was hardly met nothing is said, nor of ideographs and syllables. Numbers are not spelled.

    Found are random letters, keys and encoded bytes with or without spaces, words in random order,
    and UTF-8 read as Latin-1 or Windows-1252, once or twice. At a strictness of 0.3 it takes 19
    bytes of the first. Not found: shorter noise, a blob inside a longer text, words in random
    order with more than a space between them, rows without letters, noise that repeats noise, noise
    in a language or an alphabet that the pool hardly has, and noise that makes up half of the pool:
    where pairs do not attract at all, only misdecoded samples are noise. Taken for noise: what is
    in no language, such as chess games, chords, DNA and lists of acronyms; a few command lines and
    formulas whose words are at home in sentences; and single short sentences in a language that is
    spelled unlike the rest, such as Polish in English.

    Args:
        pool: The samples.
        rows: The candidates, ascending; what is usual is read from these alone.
        strictness: 0 finds only what chance would have written, 1 all that holds together less
            than its words do elsewhere.
        ctx: Its workers read texts and look words up; counts and sums are made in the caller's
            thread, in the order of the rows, so that workers change nothing. Told of rows done,
            over all three passes.

    Returns:
        bool `(len(rows),)`.

    **Source:** the attraction is pointwise mutual information (Church and Hanks 1990, "Word
    association norms", Computational Linguistics 16), each text's own words left out.
    **Cost:** some 76 ns a byte on one core of 2021 in a pool of 16 MiB and 5 more for every
    doubling, three passes over the text; memory 5 bytes a byte of text, at most 530 MiB, and some
    25 MB for each of four batches a worker; workers that are processes have a copy of it each,
    sent to them twice.
    """
    from didact.text.noise import kernel

    _, first, group_of = np.unique(pool.content_hash[rows], return_index=True, return_inverse=True)
    once = np.zeros(len(rows), np.bool_)
    once[first] = True
    lengths = pool.n_bytes[rows]
    step = -(-int(lengths[once].sum()) // _COUNTED_BYTES)
    counted = once & (np.cumsum(once) % max(step, 1) == 0)
    met = _nothing_met(int(lengths[counted].sum()))

    parts = pool.parts(rows)
    items = [(rows[part], counted[part]) for part in parts]

    def passing(number: int, work: Work[R], *shared: Any) -> Iterator[tuple[slice, R]]:
        mapped = ctx.executor.map(work, items, shared=(pool, *shared))
        for part, found in zip(parts, mapped, strict=True):
            yield part, found
            ctx.progress(Progress("noise", number * len(rows) + part.stop, 3 * len(rows)))

    for _, text in passing(0, _text):
        kernel.count(text, met)
    total = max(float(met.words[:, 0].sum(dtype=np.float64)), 1.0)
    found = []
    for _, (text, attractions, at) in passing(1, _attractions, met, total):
        found.append(kernel.attract(text, met, attractions, at))
    typical = sum(worth for worth, _ in found) / max(sum(pairs for _, pairs in found), 1)
    values = _worth_of_letters(met.letters)
    broken = np.zeros(len(rows), np.bool_)
    for part, (misread, facts) in passing(2, _judged, met, total, typical, values):
        broken[part] = misread
        if facts is not None:
            broken[part] |= _score(facts, lengths[part], typical) < strictness
    return np.asarray(broken[first][group_of])


def _read(pool: Texts, item: _Item) -> tuple[pa.LargeStringArray, Text]:
    rows, counted = item
    texts = pool.texts_of(rows)
    return texts, _as_text(place_words(texts), counted)


def _text(shared: tuple[Texts], item: _Item) -> Metered[Text]:
    """What is counted of some texts: their words, by hash alone."""
    text, none = _read(*shared, item)[1], np.empty(0, np.int64)
    return Metered(text._replace(data=np.empty(0, np.uint8), starts=none, ends=none))


def _attractions(
    shared: tuple[Texts, Met, float], item: _Item
) -> Metered[tuple[Text, Float1D, Int32s]]:
    from didact.text.noise import kernel

    pool, met, total = shared
    text = _read(pool, item)[1]
    return Metered((text, *kernel.attractions(text, met, total)))


def _judged(
    shared: tuple[Texts, Met, float, float, Float1D], item: _Item
) -> Metered[tuple[Bool1D, Float1D | None]]:
    """Which texts are misdecoded, and the facts of each, unless nothing is known of pairs."""
    from didact.text.noise import kernel

    pool, met, total, typical, values = shared
    texts, text = _read(pool, item)
    facts = kernel.judge(text, met, total, typical, values) if typical > 0 else None
    return Metered((misdecoded(texts), facts))


def _as_text(words: PlacedWords, counted: Bool1D) -> Text:
    """What the kernel reads."""
    from didact.text.noise.kernel import Text

    between = words.starts[1:] - words.ends[:-1]
    near = np.zeros(len(words.hashes), np.bool_)
    near[:-1] = (between == 0) | ((between == 1) & (words.data[words.ends[:-1]] == ord(" ")))
    near[words.offsets[1:][words.counts > 0] - 1] = False
    return Text(words.data, words.starts, words.ends, words.hashes, near, words.offsets, counted)


def _nothing_met(n_bytes: int) -> Met:
    """Tables for so many bytes of text."""
    from didact.text.noise.kernel import ALPHABETS, LETTERS, Met

    fewest, most = _BUCKETS
    bits = int(min(max(n_bytes / _BYTES_PER_BUCKET, fewest), most) - 1).bit_length()
    return Met(
        words=np.zeros((1 << (bits - 2), 4), np.float32),
        pairs=np.zeros(1 << bits, np.int32),
        letters=np.zeros((ALPHABETS, LETTERS, LETTERS)),
    )


def _worth_of_letters(letters: Float1D) -> Float1D:
    """Log ratio of a letter's probability after another to 1/36, of the same shape."""
    alone = letters.sum(axis=1)
    all_of_it = alone.sum(axis=1)[:, None]
    even = _SMOOTH / _DRAWN_FROM
    share = (alone + even) / (all_of_it + _SMOOTH)
    following = letters + _SMOOTH * share[:, None, :]
    following /= letters.sum(axis=2, keepdims=True) + _SMOOTH
    sure = (all_of_it / (all_of_it + KNOWN_LETTERS))[:, :, None]
    return np.asarray(sure * np.log(_DRAWN_FROM * following) + (1 - sure) * UNKNOWN)


def _score(facts: Float1D, lengths: Int1D, typical: float) -> Float1D:
    """The share of each text's bytes that holds together, from what `kernel.judge` says."""
    attraction, expected, pairs, size, loose, worth, letters = facts.T
    usual = 0.25 * expected + 0.75 * typical * pairs
    company = np.minimum(1 - (expected - attraction) / (usual + PRIOR_NATS), 1)
    mean = np.where(letters > 0, worth / np.maximum(letters, 1e-9), UNKNOWN)
    spelled = np.clip((mean - RANDOM) / (SPELLED - RANDOM), 0, 1)
    holds = company * (1 - loose / np.maximum(size, 1) * (1 - spelled))
    return np.asarray((holds * lengths + PRIOR_BYTES) / (lengths + PRIOR_BYTES))
