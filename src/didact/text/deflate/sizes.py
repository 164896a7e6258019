"""Exact sizes that zlib's level 9 gives for one prefix followed by each of many candidates.

A set that grows sample by sample is asked again and again: how long would you be with this one
more? Compressing everything anew each time is what makes the question expensive. Here the prefix is
compressed once, and every candidate goes on from its state. Two backends give the same sizes: one
that only counts (`didact.text.deflate.kernel`, needs numba), and copies of zlib's own compressor.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Int1D, UInt8s
from didact.core.errors import ConfigError, DataError, need

Backend = Literal["auto", "numba", "zlib"]

_LEVEL: Final = 9
_LONGEST_PREFIX: Final = 2**31
_WINDOW: Final = 1 << 15
_LOOKAHEAD: Final = 262  # bytes that zlib wants to know ahead
_SLIDE: Final = 2 * _WINDOW - _LOOKAHEAD  # where its window first slides
_KEPT_PREFIX: Final = 1 << 20  # bytes of prefix that are kept at most; zlib looks 32 KiB back
_PIECE: Final = 1 << 16
_RANGES_PER_WORKER: Final = 4  # for each worker
_LONGEST_COUNTED: Final = 2**24
_FIXED_COST: Final = 200  # a candidate's fixed cost in bytes of text, to give threads equal work


@dataclass(frozen=True, slots=True)
class Texts:
    """Bytes of many texts, one after another.

    Attributes:
        data: uint8 `(m,)`.
        offsets: int64 `(n + 1,)`: text `i` is `data[offsets[i]:offsets[i + 1]]`.
    """

    data: UInt8s
    offsets: Int1D

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> UInt8s:
        return self.data[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Int1D:
        """Bytes of each text, `(n,)`."""
        return np.diff(self.offsets)


_NO_TEXTS: Final = Texts(np.empty(0, np.uint8), np.zeros(1, np.int64))
_alone = threading.local()


def classic_zlib() -> bool:
    """Whether this interpreter's zlib is the classic one, whose sizes the method is defined by.

    zlib-ng and its like give other sizes, and some of them do not say who they are: so a text is
    compressed. The numba backend gives the classic sizes anywhere.
    """
    probe = " ".join(str(i * i) for i in range(2000)).encode()
    return "zlib-ng" not in zlib.ZLIB_RUNTIME_VERSION and len(zlib.compress(probe, 9)) == 6573


def fast_backend() -> bool:
    """Whether the numba backend can run here: numba is there and on, bytes are little endian."""
    off = os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}
    return sys.byteorder == "little" and not off and importlib.util.find_spec("numba") is not None


def sizes_alone(texts: Texts) -> Int1D:
    """`len(zlib.compress(text, 9))` of each text by itself, int64 `(n,)`, counted by the kernel.

    The interpreter's lock is free meanwhile. Each thread keeps 2.3 MB of tables for its next call.

    Args:
        texts: The texts. Those of more than 16 MiB are compressed.

    Raises:
        MissingDependencyError: numba is not installed; see `fast_backend`.

    **Cost:** about 14 ns a byte of texts of 600 bytes on one core of 2024, where compressing takes
    24; loading the compiled kernel takes 0.6 s a process, and compiling it 5 s once.
    """
    lengths = texts.lengths
    long = np.flatnonzero(lengths > _LONGEST_COUNTED)
    out = np.empty(len(texts), np.int64)
    for row in long.tolist():
        out[row] = len(zlib.compress(texts[row].data, _LEVEL))
    rows = np.delete(np.arange(len(texts)), long)
    room = int(lengths[rows].max(initial=0))
    counter: _KernelCounter | None = _alone.__dict__.get("counter")
    if counter is None or counter.room < room:
        need("the numba backend", "fast")
        counter = _alone.counter = _KernelCounter(texts, room)
    counter.texts = texts
    try:
        counted = np.empty(len(rows), np.int64)
        counter.count(rows, counted)
    finally:
        counter.texts = _NO_TEXTS
    out[rows] = counted
    return out


class DeflateSizes:
    """`len(zlib.compress(prefix + text, 9))` for many texts and one growing prefix below 2 GiB.

    To be used by one thread at a time; its own threads are ended by `close`, or at the end of a
    `with` block.

    Args:
        texts: The candidates. Their bytes are read where they lie and must not change.
        workers: Threads, the caller's included.
        backend: What counts; "auto" takes "numba" where it can run and "zlib" elsewhere. Both give
            the same sizes, unless this interpreter's zlib is another library (`classic_zlib`).

    Raises:
        ConfigError: Fewer than one worker, or "numba" on a big-endian machine.
        DataError: Offsets that do not ascend within the bytes.
        MissingDependencyError: The numba backend without numba.

    **Source:** zlib 1.2.13; that a copied compressor gives exact sizes: zlib's `deflateCopy`.

    **Cost:** about 30 ns a byte and 6 µs a candidate on one core of 2021 with numba, five to seven
    times that without. With numba 2.3 MB of memory and the longest text for each worker, whatever
    the prefix.
    """

    def __init__(self, texts: Texts, *, workers: int = 1, backend: Backend = "auto") -> None:
        if workers < 1:
            raise ConfigError(f"{workers} workers; at least 1 is needed")
        if backend == "numba":
            need("the numba backend", "fast")
            if not fast_backend():
                raise ConfigError("the numba backend needs a little-endian machine; use 'zlib'")
        texts = Texts(
            np.ascontiguousarray(texts.data, np.uint8),
            np.ascontiguousarray(texts.offsets, np.int64),
        )
        lengths = texts.lengths
        first, last = texts.offsets[[0, -1]].tolist()
        if first < 0 or last > len(texts.data) or lengths.min(initial=0) < 0:
            raise DataError(  # the kernel reads where these point
                f"offsets from {first} to {last} into {len(texts.data)} bytes; expected ascending "
                "places in the bytes"
            )
        if backend == "auto":
            backend = "numba" if fast_backend() else "zlib"
        self.backend = backend
        self._texts = texts
        self._workers = workers
        self._fed = 0
        self._counters: Sequence[_SizeCounter] = (
            [_KernelCounter(texts, int(lengths.max(initial=0))) for _ in range(workers)]
            if backend == "numba"
            else [_ZlibCopies(texts)]
        )
        self._threads = ThreadPoolExecutor(workers - 1) if workers > 1 else None

    def reset(self) -> None:
        """Back to the empty prefix."""
        self._fed = 0
        for counter in self._counters:
            counter.reset()

    def feed(self, data: UInt8s) -> None:
        """Append bytes, which must not change until the next `sizes`, to the prefix.

        Raises:
            DataError: The prefix would be over 2 GiB.
        """
        self._fed += len(data)
        if self._fed >= _LONGEST_PREFIX:
            raise DataError(f"a prefix of {self._fed:,} bytes; sizes are counted below 2 GiB")
        for counter in self._counters:
            counter.feed(data)

    def sizes(self, rows: Int1D) -> Int1D:
        """Compressed bytes of the prefix followed by each text, int64 `(len(rows),)`.

        Raises:
            IndexError: A row is not one of the texts.
        """
        rows = np.ascontiguousarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self._texts)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self._texts)} texts")
        out = np.empty(len(rows), np.int64)
        if self._threads is None:
            self._counters[0].count(rows, out)
            return out
        ranges = deque(pairwise(self._split(rows)))

        def work(counter: _SizeCounter) -> None:
            while ranges:
                try:
                    a, b = ranges.popleft()
                except IndexError:  # another thread took the last one
                    return
                counter.count(rows[a:b], out[a:b])

        counters = self._counters
        others = [
            self._threads.submit(work, counters[i % len(counters)]) for i in range(1, self._workers)
        ]
        work(counters[0])
        for other in others:
            other.result()
        return out

    def _split(self, rows: Int1D) -> list[int]:
        """Where to cut rows into ranges of about the same work, a few for every worker.

        Whoever is done takes the next range: a thread that wakes late does less.
        """
        offsets = self._texts.offsets
        work = np.cumsum(offsets[rows + 1] - offsets[rows] + _FIXED_COST)
        total, n_ranges = int(work[-1]) if len(work) else 0, _RANGES_PER_WORKER * self._workers
        shares = [total * i // n_ranges for i in range(1, n_ranges)]
        return [0, *np.searchsorted(work, shares).tolist(), len(rows)]

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _SizeCounter(Protocol):
    """A prefix that grows, and the sizes it has together with each of some texts."""

    def reset(self) -> None: ...

    def feed(self, data: UInt8s) -> None: ...

    def count(self, rows: Int1D, out: Int1D) -> None: ...


class _ZlibCopies:
    """Copies of a zlib compressor; may count in several threads at once.

    What zlib is fed in pieces it compresses as if it came at once, but for one thing: at byte
    65,274, and 32,768 bytes later and so on, it slides its window when it knows fewer than 262
    bytes more, and loses the byte at the largest distance. A prefix that would bring it there waits
    for one more byte.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self.reset()

    def reset(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL)
        self._fed = self._emitted = 0
        self._delayed = b""

    def feed(self, data: UInt8s) -> None:
        known = self._delayed + data.tobytes()
        beyond = self._fed + len(known) - _SLIDE
        end = len(known) - (beyond >= 0 and beyond % _WINDOW == _LOOKAHEAD - 1)
        known, self._delayed = known[:end], known[end:]
        self._fed += len(known)
        self._emitted += len(self._compressor.compress(known))

    def count(self, rows: Int1D, out: Int1D) -> None:
        data, offsets = self._texts.data.data, self._texts.offsets
        bounds = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
        for i, (a, b) in enumerate(bounds):
            copy = self._compressor.copy()
            text = self._delayed + data[a:b].tobytes() if self._delayed else data[a:b]
            out[i] = self._emitted + len(copy.compress(text)) + len(copy.flush())


class _KernelCounter:
    """The kernel on memory of its own, which one thread uses at a time.

    What is fed waits until something is counted, so that it happens in the thread that counts.
    """

    def __init__(self, texts: Texts, longest: int) -> None:
        from didact.text.deflate import kernel as deflate_kernel

        self._kernel = deflate_kernel
        self.texts, self.room = texts, longest
        self._text = np.zeros(_KEPT_PREFIX + longest + 16, np.uint8)
        self._tables = deflate_kernel.tables()
        self._state = deflate_kernel.state()
        self._known = 0
        self._waiting: list[UInt8s] = []

    def reset(self) -> None:
        self._tables[:] = self._kernel.tables()
        self._state[:] = self._kernel.state()
        self._known = 0
        self._waiting = []

    def feed(self, data: UInt8s) -> None:
        self._waiting.append(data)

    def count(self, rows: Int1D, out: Int1D) -> None:
        for data in self._waiting:
            self._append(data)
        self._waiting = []
        offsets = self.texts.offsets
        long = np.flatnonzero(offsets[rows + 1] - offsets[rows] > self._kernel.LONGEST)
        begin = 0
        for end in [*long.tolist(), len(rows)]:
            self._count(rows[begin:end], out[begin:end])
            if end < len(rows):  # too long for the kernel to undo
                tables = self._tables.copy()
                self._count(rows[end : end + 1], out[end : end + 1])
                self._tables[:] = tables
            begin = end + 1

    def _append(self, data: UInt8s) -> None:
        for at in range(0, len(data), _PIECE):
            if self._known + _PIECE > _KEPT_PREFIX:
                dropped = self._kernel.shift(self._tables, self._state, _PIECE)
                self._text[: self._known - dropped] = self._text[dropped : self._known].copy()
                self._known -= dropped
            piece = data[at : at + _PIECE]
            self._text[self._known : self._known + len(piece)] = piece
            self._known += len(piece)
            self._kernel.feed(*self._memory(), self._known)

    def _count(self, rows: Int1D, out: Int1D) -> None:
        data, offsets = _address(self.texts.data), _address(self.texts.offsets)
        self._kernel.count(*self._memory(), data, offsets, _address(rows), len(rows), _address(out))

    def _memory(self) -> tuple[int, int, int]:
        return _address(self._text), _address(self._tables), _address(self._state)


def _address(array: npt.NDArray[Any]) -> int:
    return array.ctypes.data
