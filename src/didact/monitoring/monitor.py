"""Monitoring: versions of the data in order, each beside the earlier ones, before and in training.

```text
before   redundancy · copies · known · source · held_out     no model
during   surprise · loss · repeats · spike · jump            one forward pass of the previous model
```
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np

from didact.analysis.risk.before import (
    Found,
    judge_data,
    repeating,
    rows_of,
)
from didact.analysis.risk.during import (
    Run,
    comparable,
    judge_jumps,
    judge_loss,
    judge_repeats,
    judge_spikes,
)
from didact.analysis.risk.expected import expected_losses
from didact.analysis.risk.flags import Judged, Rows, Watched, watched
from didact.analysis.risk.held_out import held_out_of, judge_held_out
from didact.analysis.risk.surprise import Asked, judge_surprise, run_of
from didact.core.arrays import Int1D
from didact.core.errors import ConfigError, DataError, DidactError
from didact.core.paths import Given, Place, listed, place
from didact.core.protocols import Context
from didact.data.reading.settings import DataSettings
from didact.monitoring.versions import Opened, check_alike, is_version, open_version
from didact.verbs import Paths, context, read_held_out

_PARTS: Final = re.compile(r"([^0-9]*)([0-9]*)")
LEAST_ROWS: Final = 50  # of a version, whose data is judged
SERIES_OF_ONE: Final = "it is alone: what to expect of it only earlier versions can tell"
FIRST: Final = "it is the first version: what to expect of it only earlier ones could tell"


def monitor(
    versions: Sequence[Given],
    *,
    held_out: Paths | None = None,
    seen: float = 1.0,
    read_as: DataSettings | None = None,
    ctx: Context | None = None,
) -> list[Watched]:
    """Judge versions of the data, each beside the earlier ones.

    Args:
        versions: Their folders in order, here or behind URLs: runs, exports, or folders or files
            of rows; with `steps.jsonl` or a `trainer_state.json` of HF Trainer their training is
            judged too. Of one alone only steps that stand out, and held-out text, can be told.
        held_out: Files of held-out text that should be in no version.
        seen: Share of the first epoch that is looked at, above 0 to 1.
        read_as: How files of rows are read.
        ctx: Seed, workers, cache.

    Returns:
        A value a version, in order.

    Raises:
        ConfigError: The versions' tokens are of different tokenizers, or `seen` is no share.
        DataError: A folder is missing or damaged.

    **Cost:** `judge_data` of the texts; where the previous version has a model, its forward pass
    over this version's rows, kept.
    """
    if not 0 < seen <= 1:
        raise ConfigError(f"seen={seen}: expected a share of the first epoch, above 0 and up to 1")
    ctx = ctx or context()
    settings = read_as or DataSettings()
    opened = [open_version(place(folder), settings, ctx) for folder in versions]
    if not opened:
        raise DataError("there is no version; expected folders of runs or of rows")
    check_alike(opened)
    before = _before(opened, held_out, settings, ctx)
    trainings = _trainings(opened, seen, ctx)
    out = []
    for i, one in enumerate(opened):
        found, cannot = before[i]
        during, why = _during(trainings[: i + 1])
        run = trainings[i].run
        share = 0.0 if run is None else run.curve.seen
        out.append(watched(one.name, share, [*found, *during], [*one.cannot, *cannot, *why]))
    return out


def series_of(folder: Given) -> list[Place]:
    """The versions of a series: subfolders and files of rows by name, v10 behind v9.

    Hidden ones are none, nor is what a monitor found.

    Raises:
        DataError: There is no such folder, or nothing in it.
    """
    home = place(folder)
    if not home.is_dir():
        what = "is a file" if home.exists() else "no such folder"
        raise DataError(f"{home}: {what}; expected a folder with a subfolder for each version")
    there = filter(is_version, listed(home, "*"))
    found = sorted(there, key=lambda p: (_numbered(p.name), p.name))
    if not found:
        raise DataError(
            f"{home}: holds no version; expected a subfolder, or a file of rows, for each, named "
            "in order"
        )
    return found


def _numbered(name: str) -> list[tuple[str, int]]:
    """Text and number in turn, so that numbers count by value."""
    return [(text, int(number or -1)) for text, number in _PARTS.findall(name)]


# -- before training -------------------------------------------------------------------------------


def _before(
    opened: Sequence[Opened], held_out: Paths | None, settings: DataSettings, ctx: Context
) -> list[tuple[list[Found], list[str]]]:
    out: list[tuple[list[Found], list[str]]] = [([], []) for _ in opened]
    out[0][1].append(SERIES_OF_ONE if len(opened) == 1 else FIRST)
    datas = {i: one.data for i, one in enumerate(opened) if one.data is not None}
    if held_out is not None:
        held = held_out_of(read_held_out(held_out, settings, ctx).pool)
        for i, one in zip(datas, judge_held_out(list(datas.values()), held), strict=True):
            _add(out[i], one)
    for i, data in datas.items():
        if held_out is None:
            out[i][1].append("held_out: no held-out files were given")
        if len(data.rows) < LEAST_ROWS:
            out[i][1].append(f"it has {len(data.rows)} rows; below {LEAST_ROWS} nothing is unusual")
    datas = {i: data for i, data in datas.items() if len(data.rows) >= LEAST_ROWS}
    if (first := next(iter(datas), 0)) > 0:
        out[first][1].append("of no earlier version there is text to compare it with")
    for i, one in zip(datas, judge_data(list(datas.values())), strict=True):
        _add(out[i], one)
    return out


def _add(all_of_it: tuple[list[Found], list[str]], one: tuple[list[Found], list[str]]) -> None:
    all_of_it[0].extend(one[0])
    all_of_it[1].extend(one[1])


# -- while training --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Training:
    """A version's training, with what the previous version's model expects of its samples.

    Attributes:
        opened: The version.
        whole: Its first epoch; None where there is no log.
        run: The share of it that is looked at.
        asked: All samples, in the order in which they are read if that is known.
        rows: Rows of its pool that `asked` is of.
        n: How many of them were seen.
        why: Why the model was not asked.
    """

    opened: Opened
    whole: Run | None
    run: Run | None
    asked: Asked | None = None
    rows: Int1D = field(default_factory=lambda: np.empty(0, np.int64))
    n: int = 0
    why: str = ""


def _trainings(opened: Sequence[Opened], seen: float, ctx: Context) -> list[_Training]:
    out = []
    for i, one in enumerate(opened):
        whole = None if one.curve is None else Run(one.curve)
        this = _Training(one, whole, whole)
        this = _ask(opened[i - 1], this, ctx) if i else this
        if this.whole is not None:
            run = this.whole.until(seen)
            last = int(run.curve.step[-1]) if len(run.curve) else 0
            ordered = one.sequence is not None and one.batch_size is not None
            n = min(last * (one.batch_size or 0), len(this.rows)) if ordered else len(this.rows)
            this = replace(this, run=run, n=n)
        out.append(this)
    return out


def _ask(previous: Opened, this: _Training, ctx: Context) -> _Training:
    """Ask the previous version's model what it expects of the samples."""
    one, data = this.opened, this.opened.data
    if data is None or previous.model is None:
        what = "its texts are gone" if data is None else f"{previous.name} left no model"
        return replace(this, why=f"surprise: {what}")
    settings = previous.about.get("settings") or one.about.get("settings") or {}
    rows = data.rows if one.sequence is None else one.sequence
    try:
        losses = expected_losses(previous.model, data.pool, rows, settings, ctx)
    except DidactError as error:
        return replace(this, why=f"surprise: the model of {previous.name} was not asked ({error})")
    names = np.array(data.pool.source_names, dtype=object)[data.pool.source_codes[rows]]
    this = replace(this, asked=Asked(losses, names), rows=rows, n=len(rows))
    if this.whole is None or one.sequence is None or one.batch_size is None:
        return this
    # Rows that were not compared repeat none: each has a label of its own.
    group = len(data.rows) + np.arange(len(data.rows))
    group[data.looked_at] = data.copies.group
    label = group[np.searchsorted(data.rows, rows)]
    whole = run_of(this.whole.curve, Asked(losses, names), one.batch_size, label)
    return replace(this, whole=whole)


def _during(trainings: Sequence[_Training]) -> tuple[list[Found], list[str]]:
    """The last of some versions beside the ones before."""
    this = trainings[-1]
    found: list[Found] = []
    cannot: list[str] = []
    if len(trainings) > 1:
        found, cannot = _surprise(trainings)
    if this.run is None:
        return found, cannot
    if len(trainings) > 1:
        more, why = _loss(trainings)
        found, cannot = [*found, *more], [*cannot, *why]
    curve = this.run.curve
    found += [(one, _repeated(this)) for one in judge_repeats(this.run)]
    for one in judge_spikes(curve, _whole(this.run)):
        found.append((one, _rows_of_steps(this, one)))
    jumps = judge_jumps(curve)
    if not jumps and np.isnan(curve.norm).all():
        cannot.append("jump: the log tells no norm of the gradient")
    found += [(one, _rows_of_steps(this, one)) for one in jumps]
    return found, cannot


def _surprise(trainings: Sequence[_Training]) -> tuple[list[Found], list[str]]:
    this, previous = trainings[-1], trainings[-2]
    if this.asked is None:
        return [], [this.why]
    earlier = [
        one.asked
        for before, one in pairwise(trainings[:-1])
        if one.asked is not None and _same_base(before, previous)
    ]
    end = None if previous.whole is None else previous.whole.curve
    found = judge_surprise(this.asked.until(this.n), earlier, end)
    data = this.opened.data
    if not found or data is None:
        nothing = (
            "neither a model before that one's nor the end of its training tells what to expect"
        )
        return [], [f"surprise: {previous.opened.name}: {nothing}"]
    return [(one, _named(this, this.rows[places])) for one, places in found], []


def _same_base(one: _Training, other: _Training) -> bool:
    """Whether the models of two versions began alike, so that they know equally much."""
    bases = [training.opened.about.get("model") for training in (one, other)]
    return bases[0] == bases[1]


def _loss(trainings: Sequence[_Training]) -> tuple[list[Found], list[str]]:
    this = trainings[-1]
    run = this.run
    assert run is not None  # noqa: S101 - asked for where there is a log
    whys, earlier = [], []
    for one in trainings[:-1]:
        if one.run is None or one.whole is None:
            whys.append(f"{one.opened.name} has no log of a training")
            continue
        why = comparable(run.curve, one.whole.curve)
        if why:
            whys.append(f"{one.opened.name}: {why}")
        else:
            earlier.append(one.whole)
    if not earlier:
        return [], [f"loss: {'; '.join(whys)}"]
    asked = [one for one in earlier if one.reference is not None]
    paired = run.reference is not None and bool(asked)
    judged = judge_loss(run, asked if paired else earlier, paired=paired)
    return [(one, _rows_of_loss(this, one)) for one in judged], []


def _whole(run: Run) -> np.ndarray | None:
    """What was expected of every entry, if it is known of every entry."""
    known = run.reference is not None and bool(np.isfinite(run.reference).all())
    return run.reference if known else None


# -- rows ------------------------------------------------------------------------------------------


def _named(this: _Training, rows: Int1D, why: Sequence[str] = ()) -> Rows:
    """Rows of the pool, the worst first."""
    data = this.opened.data
    if data is None or not len(rows):
        return Rows(len(rows))
    places = np.searchsorted(data.rows, rows)
    return rows_of(data, places, why)


def _rows_of_steps(this: _Training, one: Judged) -> Rows:
    """The rows of the step that a number is of."""
    sequence, size = this.opened.sequence, this.opened.batch_size
    if sequence is None or not size or this.run is None:
        return Rows()
    curve, step = this.run.curve, int(one.place.removeprefix("step "))
    at = int(np.searchsorted(curve.step, step))
    begin = int(curve.step[at - 1]) if at else 0
    return _named(this, sequence[begin * size : step * size])


def _rows_of_loss(this: _Training, one: Judged) -> Rows:
    """The rows behind a loss: those that repeat others where it is low, else the surprising."""
    if not one.flagged or this.asked is None:
        return Rows()
    if one.z < 0 and (repeated := _repeated(this, one.source)).count:
        return repeated
    asked = this.asked.until(this.n)
    chosen = np.flatnonzero(asked.of(one.source) & (asked.losses.tokens > 0))
    each = asked.losses.nats[chosen] / asked.losses.tokens[chosen]
    worst = chosen[np.argsort(-each if one.z > 0 else each, kind="stable")]
    return _named(this, this.rows[worst])


def _repeated(this: _Training, source: str = "") -> Rows:
    """The rows seen that nearly repeat another row of the version."""
    data = this.opened.data
    if data is None:
        return Rows()
    return repeating(data, np.isin(data.rows, this.rows[: this.n]), source)
