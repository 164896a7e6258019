"""Whether a log of training steps follows an order: `didact verify-order LOG MANIFEST`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from didact.callbacks.judgement import Evidence, Judge, Verdict
from didact.callbacks.ordered_rows import open_order, order_ids
from didact.callbacks.recognition import Found, recognize
from didact.callbacks.row_index import build_index
from didact.callbacks.units import CHARACTERS
from didact.core.arrays import Int1D
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, place
from didact.data.reading.files import readable
from didact.training.telemetry import rows_digest

EXIT_CODES: Final[Mapping[Verdict, int]] = {"in order": 0, "broken": 4, "cannot tell": 5}
_Recognized = tuple[Sequence[Found], Evidence | None]
_KINDS: Final = ("positions", "ids", "texts", "rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a log says of an order.

    Attributes:
        verdict: `in order`, `broken` or `cannot tell`.
        said: Why, in a sentence.
        steps: Number of steps in the log.
        of_steps: Number of steps of the order.
        in_order: Number of steps that read what the order says.
        first_wrong_step: The first one that did not.
        expected: Ids of rows that it should have read and did not.
        seen: Ids of rows that it read instead.
        notes: What else is worth knowing.
    """

    verdict: Verdict
    said: str
    steps: int
    of_steps: int
    in_order: int
    first_wrong_step: int | None = None
    expected: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Facts for people and machines, JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Log:
    """The steps of a log.

    Attributes:
        kind: What is told of steps: `positions` of the order, `rows` of the pool, `ids`, `texts`,
            or the `digest` of its rows.
        steps: Number of each step → what was told of it.
        numbered: Whether the log says which step a line is of.
        notes: What is odd about it.
        widest: Most samples of a step, where lines of digests tell their number.
    """

    kind: str = ""
    steps: dict[int, list[Any]] = field(default_factory=dict)
    numbered: bool = True
    notes: list[str] = field(default_factory=list)
    widest: int = 0


def verify_order(log: Given, manifest: Given) -> Verified:
    """Judge a log of training steps by an order.

    Lines of the log are JSON, one a step or one for each part of it (a rank, a micro-batch), with
    `step` and one of `ids`, `rows` (of the pool), `positions` (in the order, as OrderGuard writes
    them) or `texts` (as they entered the model); didact's own `steps.jsonl`; or one id a line, in
    sequence. A step that comes again after later ones is a run that went on from a checkpoint: what
    came after it before does not count.

    Args:
        log: The log.
        manifest: The run folder, its `manifest.json`, or `order.parquet`; for `texts` the folder.

    Raises:
        DataError: The log or the order cannot be read.

    **Cost:** reads both once; for `texts` the exported rows too, see `row_index.build_index`.
    """
    ids, rows, batch_size = order_ids(manifest)
    found = _read(place(log))
    if not found.steps:
        raise DataError(f"{log}: holds no step; expected a line for each")
    size = batch_size or _widest(found)
    if found.kind == "digest":
        return _by_digest(found, ids, rows, size)
    if found.kind == "texts":
        return _by_text(found, ids, manifest, size)
    if found.kind == "positions":
        known = {i: i for i in range(len(ids))}
        number = np.arange(len(ids))
    else:
        names: list[Any] = ids if found.kind == "ids" else rows.tolist()
        known = {}
        for name in names:
            known.setdefault(name, len(known))
        number = np.fromiter((known[name] for name in names), np.int64, len(names))
    told = _typed(found)

    def seen(values: Sequence[Any]) -> _Recognized:
        rows = [(known[v],) if v in known else () for v in values]
        return [Found(row, frozenset(), place) for place, row in enumerate(rows)], None

    first = np.unique(number, return_index=True)[1]
    return _judged(told, ids, Judge(number, first, size), seen)


def _typed(found: _Log) -> _Log:
    """Ids as the order writes them: text; rows and positions as numbers."""
    if found.kind == "ids":
        cast: Callable[[Any], Any] = str
    else:
        cast = int
    try:
        steps = {n: [cast(v) for v in values] for n, values in found.steps.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"the log's {found.kind} are {error}; expected numbers") from error
    return _Log(found.kind, steps, found.numbered, found.notes)


def _by_text(found: _Log, ids: list[str], manifest: Given, size: int) -> Verified:
    """By the texts that entered the model."""
    index = build_index(open_order(manifest).turns(), CHARACTERS)

    def seen(values: Sequence[Any]) -> _Recognized:
        sequences = recognize(index, CHARACTERS.encode([str(v) for v in values]))
        return sequences.found, sequences

    return _judged(found, ids, Judge(index.row, index.first, size), seen)


def _judged(
    found: _Log,
    ids: list[str],
    judge: Judge,
    seen: Callable[[Sequence[Any]], _Recognized],
) -> Verified:
    """Judge every step."""
    steps = found.steps if found.numbered else _cut(found.steps, judge.batch_size)
    numbers = sorted(steps)
    for number in numbers:
        judge.step(number, *seen(steps[number]))
        if judge.wrong is not None:
            break
    notes = list(found.notes)
    if judge.ambiguous:
        notes.append(f"{judge.ambiguous} texts match several rows, any of which counts")
    common: dict[str, Any] = {
        "steps": len(numbers), "of_steps": judge.steps, "in_order": judge.judged,
        "notes": tuple(notes),
    }  # fmt: skip
    if judge.wrong is not None:
        wrong = judge.wrong
        expected, other = ([ids[p] for p in part] for part in (wrong.expected, wrong.seen))
        return Verified(
            verdict="broken",
            said=f"step {wrong.step} did not read what the order says: {_shown(expected)} missing, "
            f"{_shown(other)} seen instead; most likely {wrong.why}",
            first_wrong_step=wrong.step,
            expected=tuple(expected),
            seen=tuple(other),
            **common,
        )
    return _unbroken(judge, numbers, found.kind, common)


def _unbroken(judge: Judge, numbers: Sequence[int], kind: str, common: dict[str, Any]) -> Verified:
    """The verdict where no step is wrong."""
    said = f"{judge.judged} of {judge.steps} steps read what the order says"
    gaps = sorted(set(range(1, judge.steps + 1)) - set(numbers))
    if judge.unverified and judge.first_unverified is not None:
        step, known, count = judge.first_unverified
        said += (
            f"; of step {step} {known} of {count} {kind} are in it, expected 95 % or more: is it "
            "the order of this training?"
        )
    elif gaps:
        said += (
            f"; steps {gaps[0]}–{gaps[-1]} "  # noqa: RUF001 - a range
            f"({len(gaps)} of {judge.steps}) are not in the log: expected all of them"
        )
    else:
        return Verified(verdict="in order", said=said, **common)
    return Verified(verdict="cannot tell", said=said, **common)


def _by_digest(found: _Log, ids: list[str], rows: Int1D, size: int) -> Verified:
    """By the digests of rows in didact's own log; steps run on over the ends of epochs."""
    of_steps = -(-len(rows) // size)
    common: dict[str, Any] = {
        "steps": len(found.steps), "of_steps": of_steps, "notes": tuple(found.notes),
    }  # fmt: skip
    good = 0
    for number in sorted(found.steps):
        at = (number - 1) * size
        if number > of_steps or rows_digest(rows[at : at + size]) != found.steps[number][0]:
            told = ids[at : at + size]
            return Verified(
                verdict="broken", first_wrong_step=number, expected=tuple(told), in_order=good,
                said=f"step {number} read other rows than the order's {_shown(told)}, or in "
                f"another sequence, or steps are not of {size} samples",
                **common,
            )  # fmt: skip
        good += 1
    said = f"{good} of {of_steps} steps read what the order says"
    if good < of_steps:
        said += "; the others are not in the log: expected all of them"
        return Verified(verdict="cannot tell", said=said, in_order=good, **common)
    return Verified(verdict="in order", said=said, in_order=good, **common)


def _shown(ids: Sequence[str]) -> str:
    listed = ", ".join(repr(i) for i in ids[:4])
    return (listed + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")) or "nothing"


# -- reading ---------------------------------------------------------------------------------------


def _read(path: Place) -> _Log:
    """The steps of a log; a last line that was cut is left out and noted."""
    log = _Log()
    with readable(path):
        lines = path.read_text("utf-8").splitlines()
    last = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        told = _parsed(line, f"{path}:{number}", log, final=number == len(lines))
        if told is None:
            continue
        kind, step, values = told
        if log.kind and kind != log.kind:
            raise DataError(
                f"{path}:{number}: {kind} where the lines before have {log.kind}; expected one "
                "kind: give the log of one training"
            )
        log.kind = kind
        if step is None:
            log.numbered = False
            step = 1
        elif step < last:
            later = [n for n in log.steps if n >= step]
            log.notes.append(
                f"the log goes back from step {last} to {step}: training went on there"
            )
            for n in later:
                del log.steps[n]
        last = step
        log.steps.setdefault(step, []).extend(values)
    return log


def _parsed(
    line: str, place: str, log: _Log, *, final: bool
) -> tuple[str, int | None, list[Any]] | None:
    """Kind, step and values of a line; None where it was cut or tells of no step."""
    if line.lstrip()[0] != "{":
        return "ids", None, [_plain_id(line)]
    try:
        told = parse_json(line)
    except ValueError as error:
        if final:
            log.notes.append(f"the last line was cut and is left out ({error})")
            return None
        raise DataError(
            f"{place}: not JSON ({error}); expected one object a line: the line was cut, remove it"
        ) from error
    step = told.get("step", told.get("global_step"))
    kind = next((name for name in _KINDS if told.get(name) not in (None, "")), None)
    if kind is None and told.get("rows") == "":
        raise DataError(
            f"{place}: does not tell its rows: callbacks.Telemetry does not see them; expected the "
            "order_log.jsonl that OrderGuard writes beside it, or a log of ids"
        )
    if kind is None:
        raise DataError(
            f"{place}: has {', '.join(told) or 'nothing'} and does not say what was read; expected "
            f"step, and one of {', '.join(_KINDS)}"
        )
    values = told[kind]
    if isinstance(values, str) and kind == "rows":
        kind, values = "digest", [values]
        read = [told.get(name) for name in ("samples", "skipped")]
        log.widest = max(log.widest, sum(n for n in read if isinstance(n, int)))
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise DataError(f"{place}: step is {step!r}; expected a whole number from 1")
    if not isinstance(values, list):
        raise DataError(f"{place}: {kind} is {values!r:.60}; expected a list")
    return kind, step, [*values, *[_NOBODY] * _unrecognized(told)]


_NOBODY: Final = -1  # a sequence in which OrderGuard recognized no row


def _unrecognized(told: Mapping[str, Any]) -> int:
    count = told.get("unrecognized", 0)
    return count if isinstance(count, int) and count > 0 else 0


def _plain_id(line: str) -> str:
    """An id that stands alone on its line, perhaps as JSON text."""
    text = line.strip()
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        try:
            return str(parse_json(text))
        except ValueError:
            return text
    return text


def _cut(steps: Mapping[int, list[Any]], size: int) -> dict[int, list[Any]]:
    """One sequence in steps of some samples."""
    values = steps[1]
    return {i // size + 1: values[i : i + size] for i in range(0, len(values), size)}


def _widest(found: _Log) -> int:
    """Samples of a step, where the order does not say: the most of any; 1 of a bare sequence."""
    if found.kind == "digest":
        return max(found.widest, 1)
    return max(map(len, found.steps.values())) if found.numbered else 1
