r"""ARPA files: back-off models as text, read as a stream into the cells of a `Model`.

```text
\data\
ngram 1=…           n-grams of each order

\1-grams:
log₁₀ p  word  log₁₀ of the back-off weight, where it is not 0
…
\end\
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Float1D, Int1D, UInt8s
from didact.core.errors import DataError
from didact.text.ngram_lm import kernel
from didact.text.ngram_lm.kernel import BEGIN, END, ORDERS, UNKNOWN
from didact.text.ngram_lm.model import MOST, NO_UNKNOWN, Draft, Model
from didact.text.ngram_lm.tokens import hash_of
from didact.text.words import hash_spans, hash_words

_SPECIAL: Final = {"<unk>": UNKNOWN, "<UNK>": UNKNOWN, "<s>": BEGIN, "</s>": END}
_GAPS: Final = np.zeros(256, np.bool_)
_GAPS[list(b"\t\n\r ")] = True  # as KenLM reads such files: no other byte parts words
_MARK: Final = b"\xef\xbb\xbf"  # some editors write it before UTF-8
_HEADER: Final = re.compile(rb"^\\", re.MULTILINE)
_COUNT: Final = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")
_SECTION: Final = re.compile(rb"\\(\d+)-grams:")
_BLOCK: Final = 1 << 20
_LONGEST: Final = 1 << 24  # bytes of a line
_LARGEST: Final = float(np.finfo(np.float32).max)  # as which numbers are kept
_SHOWN: Final = 80  # bytes of a line that a message shows


def read_arpa(chunks: Iterable[bytes], name: str) -> Model:
    """The model of an ARPA file.

    Args:
        chunks: The file's bytes, decompressed, in pieces of any size.
        name: Its name, for messages.

    Raises:
        DataError: It is cut short, holds other n-grams than its header says, is not UTF-8, or is no
            ARPA file; the message has the line.

    **Cost:** about 1 µs an n-gram; memory 24 bytes an n-gram and some tens of megabytes.
    """
    reader = _Reader(name)
    for block in _whole_lines(chunks, name):
        at = 0
        while at < len(block):
            if reader.in_ngrams:
                header = _HEADER.search(block, at)
                stop = header.start() if header else len(block)
                if stop > at:
                    reader.ngrams(block[at:stop])
                    at = stop
                    continue
            stop = block.find(b"\n", at) + 1
            reader.line(block[at:stop])
            at = stop
    return reader.model()


def _whole_lines(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The same bytes in pieces that end with a line; the rest of a line that is cut is left out."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        stop = rest.rfind(b"\n") + 1
        if stop >= _BLOCK or (stop and len(rest) >= _BLOCK):
            yield rest[:stop]
            rest, stop = rest[stop:], 0
        if len(rest) - stop > _LONGEST:
            raise DataError(
                f"{name}: a line of more than {_LONGEST:,} bytes; expected an ARPA file, an n-gram "
                "a line: check the path"
            )
    if rest.endswith(b"\\end\\"):
        rest += b"\n"
    if stop := rest.rfind(b"\n") + 1:
        yield rest[:stop]


class _Reader:
    """Where the reading of a file stands."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._line = 1  # number of the next line
        self._begun = self._ended = False
        self._promised: list[int] = []
        self._order = 0  # of the section; 0 before the first
        self._read = 0  # n-grams of the section
        self._closed = True
        self._plain = self._single = 0  # words that are one of ours, and characters
        self._said: set[int] = set()  # special words that were read
        self._draft: Draft | None = None

    @property
    def in_ngrams(self) -> bool:
        """Whether n-grams are expected, or a line that begins with a backslash."""
        return self._order > 0 and not self._ended

    def line(self, line: bytes) -> None:
        """One line that is no n-gram."""
        said = (line.removeprefix(_MARK) if self._line == 1 else line).strip()
        if not self._begun:
            if said == b"\\data\\":
                self._begun = True
            elif self._line > 1000:  # other tools write a few words of their own first
                raise self._error(f"no \\data\\ in the first {self._line - 1} lines")
        elif said == b"\\end\\" and self._order and not self._ended:
            self._finish_section()
            if self._order != len(self._promised):
                raise self._error(
                    f"ends after its {self._order}-grams; its header promises "
                    f"{len(self._promised)} orders"
                )
            self._ended = True
        elif (found := _SECTION.fullmatch(said)) and not self._ended:
            self._begin_section(int(found[1]))
        elif (found := _COUNT.fullmatch(said)) and not self._order:
            if int(found[1]) != len(self._promised) + 1:
                raise self._error(
                    f"{said.decode()!r} where the count of {len(self._promised) + 1}-grams is "
                    "expected"
                )
            self._promised.append(int(found[2]))
        elif said and not self._ended:
            raise self._error(f"{_shown(said)} is no part of an ARPA file")
        self._line += 1

    def _begin_section(self, order: int) -> None:
        if self._order:
            self._finish_section()
        elif not self._promised:
            raise self._error("a section of n-grams, and the header has no counts of them")
        if self._order == 0 and len(self._promised) > ORDERS:
            raise self._error(f"a model of {len(self._promised)} orders; expected {ORDERS} at most")
        if order != self._order + 1 or order > len(self._promised):
            raise self._error(
                f"a section of {order}-grams where "
                + (
                    f"{self._order + 1}-grams are expected"
                    if self._order < len(self._promised)
                    else f"the end is: the header promises {len(self._promised)} orders"
                )
            )
        if self._draft is None:
            if max(self._promised) > MOST * 2 // 3:
                raise self._error(f"{max(self._promised):,} n-grams of one order are too many")
            try:
                self._draft = Draft.of(self._promised)
            except MemoryError as error:
                raise self._error(
                    f"{sum(self._promised):,} n-grams, 24 bytes each, are more than fit into memory"
                ) from error
        self._order, self._read = order, 0

    def _finish_section(self) -> None:
        promised = self._promised[self._order - 1]
        if self._read != promised:
            raise self._error(
                f"{self._read:,} {self._order}-grams; its header promises {promised:,}"
            )

    def ngrams(self, block: bytes) -> None:
        """Lines of n-grams."""
        n = self._order
        data = np.frombuffer(block, np.uint8)
        token = ~_GAPS.take(data)
        edge = np.flatnonzero(np.diff(token, prepend=False, append=False))
        starts, ends = edge[::2], edge[1::2]
        breaks = np.flatnonzero(data == ord("\n"))
        bounds = np.searchsorted(starts, np.concatenate([[0], breaks + 1]))
        width = np.diff(bounds)
        lines = np.flatnonzero(width)
        first, width = bounds[lines], width[lines]
        if len(wrong := np.flatnonzero((width != n + 1) & (width != n + 2))):
            at = int(lines[wrong[0]])
            raise self._error(
                f"{_shown(block.splitlines()[at])} is no {n}-gram: a log probability, {n} "
                f"word{'s' * (n > 1)} and perhaps a back-off weight",
                at,
            )
        if self._read + len(lines) > self._promised[n - 1]:
            at = int(lines[self._promised[n - 1] - self._read])
            raise self._error(
                f"more {n}-grams than the {self._promised[n - 1]:,} its header promises", at
            )
        logs = self._numbers(data, starts, ends, first, lines)
        if len(above := np.flatnonzero(logs > 0)):
            at = int(lines[above[0]])
            raise self._error(f"a log probability of {logs[above[0]]:g}; expected at most 0", at)
        back_off = np.zeros(len(lines))
        has = np.flatnonzero(width == n + 2)
        back_off[has] = self._numbers(data, starts, ends, first[has] + n + 1, lines[has])
        words = (first[:, np.newaxis] + np.arange(1, n + 1)).ravel()
        hashes = hash_spans(data, starts[words], ends[words])
        if n == 1:
            self._look_at(_strings(data, starts[words], ends[words]), hashes, lines)
        places = self._enter(hashes, n, lines, block)
        assert self._draft is not None  # noqa: S101 - a section has begun
        self._draft.write(n - 1, places, logs, back_off if n < len(self._promised) else None)
        self._read += len(lines)
        self._line += len(breaks)

    def _numbers(
        self, data: UInt8s, starts: Int1D, ends: Int1D, which: Int1D, lines: Int1D
    ) -> Float1D:
        """Tokens as numbers, all of them finite as float32."""
        strings = _strings(data, starts[which], ends[which])
        try:
            found = np.asarray(strings.cast(pa.large_string()).cast(pa.float64()).to_numpy())
        except pa.ArrowInvalid:
            for at, text in zip(lines.tolist(), strings.to_pylist(), strict=True):
                try:
                    float(text)
                except ValueError as error:
                    raise self._error(f"{_shown(text)} is no number", at) from error
            found = np.array([float(text) for text in strings.to_pylist()])
        if len(beyond := np.flatnonzero(~(np.abs(found) <= _LARGEST))):
            text = strings[int(beyond[0])].as_py()
            raise self._error(f"{_shown(text)} is no finite number", int(lines[beyond[0]]))
        return found

    def _look_at(
        self, words: pa.LargeBinaryArray, hashes: npt.NDArray[np.uint64], lines: Int1D
    ) -> None:
        """Count the words that `didact.text.words` would find as they are, and characters."""
        try:
            texts = words.cast(pa.large_string())
        except pa.ArrowInvalid as error:
            at, word = next(
                (at, word)
                for at, word in zip(lines.tolist(), words.to_pylist(), strict=True)
                if not _is_utf8(word)
            )
            raise DataError(
                f"{self._name} line {self._line + at}: {_shown(word)} is not UTF-8; expected a "
                "text in UTF-8, as the pool's is: convert the file (iconv -f LATIN1 -t UTF-8, say)"
            ) from error
        found = hash_words(texts)
        alone = np.flatnonzero(found.counts == 1)
        self._plain += int((found.hashes[found.offsets[alone]] == hashes[alone]).sum())
        self._single += int(pc.sum(pc.equal(pc.utf8_length(texts), 1)).as_py() or 0)

    def _enter(self, hashes: npt.NDArray[np.uint64], n: int, lines: Int1D, block: bytes) -> Int1D:
        draft = self._draft
        assert draft is not None  # noqa: S101 - a section has begun
        size = int(draft.sizes[0])
        special = {hash_of(word): place for word, place in _SPECIAL.items()}
        words = np.full(len(hashes), -1)
        ordinary = np.ones(len(hashes), np.bool_)
        for hashed, place in special.items():
            which = np.flatnonzero(hashes == hashed)
            ordinary[which] = False
            words[which] = size + place
            if n == 1 and len(which):
                if place in self._said or len(which) > 1:
                    raise self._twice(block, int(lines[which[-1]]))
                self._said.add(place)
        rest = np.flatnonzero(ordinary)
        places = np.empty(len(rest), np.int64)
        if n == 1:
            twice = kernel.enter_words(hashes[rest], draft.cells, size, places)
            if twice >= 0:
                raise self._twice(block, int(lines[rest[twice]]))
            words[rest] = places
            return words
        kernel.find_words(hashes[rest], draft.cells, size, places)
        words[rest] = places
        if len(absent := np.flatnonzero(words < 0)):
            at = int(lines[absent[0] // n])
            raise self._error(f"{_shown(block.splitlines()[at])} has a word that is no 1-gram", at)
        places, fault = np.empty(len(lines), np.int64), np.zeros(2, np.int64)
        closed = kernel.enter(
            words.reshape(-1, n), draft.cells, draft.bases, draft.sizes, places, fault
        )
        at = int(lines[fault[0]]) if len(lines) else 0
        if fault[1] == kernel.TWICE:
            raise self._twice(block, at)
        if fault[1] == kernel.NO_CONTEXT:
            raise self._error(
                f"{_shown(block.splitlines()[at])} without its first {n - 1} "
                f"word{'s' * (n > 2)} among the {n - 1}-grams",
                at,
            )
        self._closed = self._closed and closed
        return places

    def _twice(self, block: bytes, at: int) -> DataError:
        return self._error(f"{_shown(block.splitlines()[at])} stands there a second time", at)

    def _error(self, what: str, more_lines: int = 0) -> DataError:
        return DataError(
            f"{self._name} line {self._line + more_lines}: {what}; expected a whole ARPA file, as "
            "KenLM's lmplz and SRILM write them: copy it or make it again"
        )

    def model(self) -> Model:
        """What was read, once that is all."""
        if not self._begun:
            raise self._error("the file ends, and no \\data\\ came")
        if not self._ended:
            where = f"in the middle of its {self._order}-grams" if self._order else "in its header"
            promised = ", ".join(f"{n:,}" for n in self._promised)
            raise self._error(f"it is cut short {where} (promised n-grams by order: {promised})")
        draft = self._draft
        assert draft is not None  # noqa: S101 - a section has ended
        if absent := [word for word in ("<s>", "</s>") if _SPECIAL[word] not in self._said]:
            raise self._error(f"no {' and no '.join(absent)} among its 1-grams")
        if UNKNOWN not in self._said:
            draft.write(0, draft.sizes[:1] + UNKNOWN, NO_UNKNOWN, 0.0)
        ordinary = max(self._promised[0] - len(self._said), 1)
        about = {
            "ngrams": self._promised,
            "has_unk": UNKNOWN in self._said,
            "spelled": {
                "words": self._plain / ordinary,
                "characters": self._single / ordinary,
                "whitespace": 1.0,
            },
        }
        return Model(draft.cells, draft.sizes, closed=self._closed, about=about)


def _strings(data: UInt8s, starts: Int1D, ends: Int1D) -> pa.LargeBinaryArray:
    """Spans of bytes as strings."""
    offsets = np.append(np.stack([starts, ends], axis=1).ravel(), len(data))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    spans = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 2 * len(starts), buffers)
    return spans.take(pa.array(np.arange(0, 2 * len(starts), 2)))


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace").strip()
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
