"""What samples show that should be known, by kind, from the turns of a batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Bool1D, Int1D, UInt8s
from didact.core.pool import Kind
from didact.core.render import CHOSEN, REASONING, REJECTED, derive
from didact.data.rows.reasoning import MARKS, in_text
from didact.data.rows.turns import LEARNED

_ROLES: Final = ("system", "developer", "user", LEARNED, "tool", REASONING)
# Nothing that shows: spaces of every script, control and format characters, joiners of width zero.
_BLANK: Final = r"^[\s\p{Z}\p{Cc}\p{Cf}]*$"
# An answer that begins with its reasoning.
_TRACE: Final = rf"^\s*({'|'.join(re.escape(opening) for opening, _ in MARKS)})"

# First bytes of UTF-8 texts that may match, so that few are looked at; 0 also of an empty text.
_SPACES: Final = (*range(33), 127, 0xC2)
_MAY_BE_TRACE: Final = np.isin(np.arange(256), (*_SPACES, *(mark.encode()[0] for mark, _ in MARKS)))
_MAY_BE_BLANK: Final = np.isin(
    np.arange(256), (*_SPACES, 0xD8, 0xDB, 0xDC, 0xE0, 0xE1, 0xE2, 0xE3, 0xEF, 0xF0, 0xF3)
)


def kinds_of(
    turns: pa.ListArray, kind: Kind, marks: Mapping[str, Sequence[int]]
) -> dict[str, Int1D]:
    """The samples of a batch that show something that should be known.

    Args:
        turns: The turns, `n` lists.
        kind: What the samples are.
        marks: What is known of their rows: kind → ascending rows of the batch.

    Returns:
        Kind, a name of `SAYINGS` → ascending rows of the batch.
    """
    found = {kind: np.asarray(rows, np.int64) for kind, rows in marks.items()}
    for name, rows in _of_turns(turns, kind).items():
        found[name] = np.union1d(found[name], rows) if name in found else rows
    if (
        "pair_null" in found and "pair_empty" in found
    ):  # told apart from those that are there and empty
        found["pair_empty"] = np.setdiff1d(found["pair_empty"], found["pair_null"])
    if "null_turn" in found and "empty_turn" in found:
        found["empty_turn"] = np.setdiff1d(found["empty_turn"], found["null_turn"])
    return found


def _of_turns(turns: pa.ListArray, kind: Kind) -> dict[str, Int1D]:
    """The samples of a batch whose turns show something that should be known.

    Args:
        turns: The turns, `n` lists.
        kind: What the samples are.

    Returns:
        Kind, a name of `SAYINGS` → ascending rows of the batch; those that have none are absent.

    **Cost:** a few passes over roles and weights; of contents the beginning is looked at, and
    all are searched once for the end of a trace, at about 1 GB/s.
    """
    turn = turns.flatten()
    content, part = turn.field("content"), turn.field("part").to_numpy(zero_copy_only=False)
    sample = np.repeat(np.arange(len(turns)), np.diff(turns.offsets.to_numpy()))
    first = _first_bytes(content)
    blank = _matching(content, _BLANK, _MAY_BE_BLANK[first])

    def having(mask: Bool1D) -> Bool1D:
        """True on the samples that have a turn where the mask is true, `(n,)`."""
        out = np.zeros(len(turns), np.bool_)
        out[sample[mask]] = True
        return out

    if kind == "text":
        return _rows({"blank_text": ~having(~blank)})
    role = _codes(turn.field("role"))
    reasoning, answer = role == _ROLES.index(REASONING), role == _ROLES.index(LEARNED)
    traced = reasoning | _matching(content, _TRACE, answer & _MAY_BE_TRACE[first])
    traced |= _unopened(content, answer & ~traced)
    weight = turn.field("weight").to_numpy(zero_copy_only=False)
    found = {
        "weighted": having((weight != 0) & (weight != 1)),
        "reasoning": having(traced),
        "tools": having(role == _ROLES.index("tool")),
        "unknown_role": having(role == len(_ROLES)),
    }
    if kind == "pair":
        sides = (~having((part == side) & ~blank & ~reasoning) for side in (CHOSEN, REJECTED))
        chosen, rejected = (derive(turns, n, "plain", chat=True) for n in ("chosen", "rejected"))
        found["pair_empty"] = np.logical_or(*sides)
        found["pair_unasked"] = ~having((part != CHOSEN) & (part != REJECTED))
        chosen, rejected = pc.utf8_trim_whitespace(chosen), pc.utf8_trim_whitespace(rejected)
        found["pair_equal"] = _array(pc.equal(chosen, rejected)) & ~found["pair_empty"]
        return _rows(found)
    learned = (weight > 0) & ~reasoning
    filled = having(learned & ~blank)
    empty = blank & (learned | (role == _ROLES.index("user")))
    if empty.any():
        found["empty_turn"] = having(empty) & filled
    if not filled.all():
        taught, alone = having(learned), ~having(role != _ROLES.index("system"))
        found["empty_answer"] = taught & ~filled
        found["untrained"] = ~taught & having(answer)
        found["only_system"] = ~taught & alone
        found["no_answer"] = ~taught & ~found["untrained"] & ~alone
    return _rows(found)


def _codes(roles: pa.StringArray) -> Int1D:
    """Each role's place in `_ROLES`, their number for any other, `(n,)`."""
    encoded = roles.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = [_ROLES.index(name) if name in _ROLES else len(_ROLES) for name in names]
    out: Int1D = np.asarray(places, np.int64)[encoded.indices.to_numpy()]
    return out


def _first_bytes(texts: pa.StringArray) -> UInt8s:
    """The first byte of each text, 0 where there is none, `(n,)`."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    out = np.zeros(len(texts), np.uint8)
    some = np.flatnonzero(np.diff(ends))
    if len(some):
        out[some] = np.frombuffer(data, np.uint8)[ends[some]]
    return out


def _matching(texts: pa.StringArray, pattern: str, among: Bool1D) -> Bool1D:
    """True on those of some texts that match, `(n,)`."""
    out = np.zeros(len(texts), np.bool_)
    places = np.flatnonzero(among)
    if len(places):
        out[places] = _array(pc.match_substring_regex(texts.take(pa.array(places)), pattern))
    return out


def _unopened(texts: pa.StringArray, among: Bool1D) -> Bool1D:
    """True on those of some answers whose trace began in the prompt, `(n,)`."""
    out = np.zeros(len(texts), np.bool_)
    data = texts.buffers()[2]  # searched as a whole first: most batches have none
    if data is None or MARKS[0][1].encode() not in data.to_pybytes():
        return out
    places = np.flatnonzero(among)
    some = texts.take(pa.array(places))
    found = np.flatnonzero(_array(pc.match_substring(some, MARKS[0][1])))
    out[places[found]] = [in_text(some[int(i)].as_py()) for i in found]
    return out


def _array(mask: pa.BooleanArray) -> Bool1D:
    out: Bool1D = mask.to_numpy(zero_copy_only=False)
    return out


def _rows(found: dict[str, Bool1D]) -> dict[str, Int1D]:
    return {kind: np.flatnonzero(mask) for kind, mask in found.items() if mask.any()}
