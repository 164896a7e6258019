"""Evaluation: what held-out files say of the model, each number with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from didact.reporting.formatting import NAME_WIDTH, count, number, percent, shorten
from didact.reporting.recorded import real, whole, words
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import EvaluationFacts, Subject
from didact.reporting.whiskers import Whisker, whiskers

DRAWN: Final = 40  # rows of one chart
LISTED: Final = 400  # rows of one table
NOTES: Final = 20
NOTE_WIDTH: Final = 600
CHANCE: Final = "chance"


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is called and how its values are written.

    Attributes:
        title: In a heading.
        unit: Of the values, at the axis.
        share: Whether the values are shares of 1.
    """

    title: str
    unit: str = ""
    share: bool = False


METRICS: Final[Mapping[str, Metric]] = {
    "bits_per_byte": Metric("Bits per byte of the answers", "bits per byte"),
    "bits_per_byte_all": Metric("Bits per byte of everything", "bits per byte"),
    "accuracy": Metric("Accuracy", "share of samples", share=True),
    "accuracy_per_char": Metric(
        "Accuracy by likelihood per character", "share of samples", share=True
    ),
    "answer_nats_per_char": Metric("Nats per character of the right answer", "nats per character"),
    "answer_probability": Metric("Probability of the right answer", "mean probability", share=True),
    "margin": Metric("Margin over the best wrong answer", "nats"),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One number.

    Attributes:
        model: Its short name.
        file: The file's name.
        task: "" for all of them.
        source: "" for all of them.
        metric: The metric.
        higher_is_better: Its direction.
        value: The number; None where it is none.
        low: Lower end of its interval; None without one.
        high: Upper end.
        n: How many samples or runs it is of.
        unit: Which of the two.
        chance: What guessing gives; None where that means nothing.
    """

    model: str
    file: str
    task: str
    source: str
    metric: str
    higher_is_better: bool
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    unit: str
    chance: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What held-out files say.

    Attributes:
        readings: Every number but chance, which stands beside its accuracy.
        notes: Decisions worth telling.
    """

    readings: tuple[Reading, ...]
    notes: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Their names, in order of appearance."""
        return tuple(dict.fromkeys(r.model for r in self.readings))

    @property
    def files(self) -> tuple[str, ...]:
        """Their names, in order of appearance."""
        return tuple(dict.fromkeys(r.file for r in self.readings))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those known here in their order, then all others."""
        found = dict.fromkeys(r.metric for r in self.readings)
        known = [name for name in METRICS if name in found]
        return (*known, *(name for name in found if name not in METRICS))

    @property
    def units(self) -> frozenset[str]:
        """What the intervals count."""
        return frozenset(r.unit for r in self.readings if r.low is not None)


def evaluation(facts: EvaluationFacts) -> Evaluation | None:
    """What held-out files say, as the report tells it; None without a number and a note.

    A record of the metric "chance" belongs to the accuracies of the same model, file, task and
    source; so does a `chance` in their own records.
    """
    names = _short_names(facts)
    chance = {_place(r): real(r.get("value")) for r in facts.records if r.get("metric") == CHANCE}
    readings = tuple(
        Reading(
            model=names[words(r.get("model"))], file=shorten(words(r.get("file")), NAME_WIDTH),
            task=shorten(words(r.get("task")), NAME_WIDTH),
            source=shorten(words(r.get("source")), NAME_WIDTH),
            metric=shorten(words(r.get("metric")), NAME_WIDTH),
            higher_is_better=bool(r.get("higher_is_better")),
            value=real(r.get("value")), low=real(r.get("low")), high=real(r.get("high")),
            n=whole(r.get("n")), unit=words(r.get("unit")), chance=_chance(r, chance),
        )
        for r in facts.records
        if r.get("metric") != CHANCE
    )  # fmt: skip
    notes = tuple(shorten(note, NOTE_WIDTH) for note in dict.fromkeys(facts.notes))
    if len(notes) > NOTES:
        notes = (*notes[:NOTES], f"{count(len(notes) - NOTES)} more are in the table's metadata")
    return Evaluation(readings, notes) if readings or notes else None


def _place(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(words(record.get(name)) for name in ("model", "file", "task", "source"))


def _chance(record: Mapping[str, Any], found: Mapping[tuple[str, ...], float | None]) -> Any:
    if "accuracy" not in words(record.get("metric")):
        return None
    own = real(record.get(CHANCE))
    return own if own is not None else found.get(_place(record))


def _short_names(facts: EvaluationFacts) -> dict[str, str]:
    """Model → the last part of its path, or all of it where two would have one name."""
    models = list(dict.fromkeys(words(r.get("model")) for r in facts.records))
    last = [PurePath(model).name or model for model in models]
    unique = len(set(last)) == len(last)
    return {
        model: shorten(name if unique else model, NAME_WIDTH)
        for model, name in zip(models, last, strict=True)
    }


def _gather(subject: Subject) -> Evaluation | None:
    return None if subject.evaluation is None else evaluation(subject.evaluation)


def _template_values(found: Evaluation, _header: Header) -> Mapping[str, Any]:
    everything = [r for r in found.readings if not r.source]
    return {
        "figures": [_figure(found, metric) for metric in found.metrics],
        "interval": _interval(found),
        "tables": [
            ("Every number", everything[:LISTED], len(everything)),
            ("By source", (by := [r for r in found.readings if r.source])[:LISTED], len(by)),
        ],
        "metric": _called,
        "shown": shown,
    }


def shown(reading: Reading, value: float | None) -> str:
    """A value as its metric writes it."""
    return _writer(reading.metric)(value)


def _called(metric: str) -> Metric:
    return METRICS.get(metric, Metric(metric))


def _writer(metric: str) -> Callable[[float | None], str]:
    return percent if _called(metric).share else number


def _interval(found: Evaluation) -> str:
    """What the intervals are of."""
    if found.units == {"samples"}:
        return (
            "Intervals (95%) are over samples: they are of this one run. Two runs that differ in "
            "their seeds alone differ by more than that."
        )
    if found.units == {"runs"}:
        return (
            "Intervals (95%) take the run as their unit, seed and draw, with its samples nested "
            "inside."
        )
    if found.units:
        return (
            "Intervals (95%) are over what each line's last column counts; those over samples are "
            "of one run, and two runs that differ in their seeds alone differ by more than that."
        )
    return "Without intervals: nothing says how far two runs would differ."


def _figure(found: Evaluation, metric: str) -> tuple[str, str, str, str]:
    """Title, direction, chart and caption of one metric."""
    own = [r for r in found.readings if r.metric == metric and not r.source]
    rows, called = _rows(own, models=len(found.models) > 1), _called(metric)
    direction = "higher is better" if own and own[0].higher_is_better else "lower is better"
    chart = whiskers(
        rows[:DRAWN], shares=called.share, x_label=called.unit,
        described=f"{called.title}, {direction}: " + "; ".join(
            f"{r.name} {r.shown}" for r in rows[:DRAWN] if r.value is not None
        ),
    )  # fmt: skip
    caption = "Dot: value; line: 95% interval"
    if any(r.chance is not None for r in rows):
        caption += "; dashed mark: chance"
    if len(rows) > DRAWN:
        caption += f". {count(len(rows) - DRAWN)} more rows are in the table"
    return called.title, direction, chart, f"{caption}."


def _rows(readings: list[Reading], *, models: bool) -> list[Whisker]:
    """Rows of one metric: files, within them tasks or models, whichever there are."""
    out: list[Whisker] = []
    for file in dict.fromkeys(r.file for r in readings):
        mine = [r for r in readings if r.file == file]
        tasks = list(dict.fromkeys(r.task for r in mine))
        if "" in tasks and len(tasks) == 2:
            tasks = [""]  # one task is all of them
        if not models:
            whole_file = next((r for r in mine if r.task == "" or len(tasks) == 1), None)
            out.append(_row(file, whole_file, inner=False))
            inner = [r for r in mine if r.task and r.task in tasks and r is not whole_file]
            out.extend(_row(r.task, r, inner=True) for r in inner)
            continue
        if tasks[0]:
            out.append(Whisker(file))
        for task in tasks:
            out.append(Whisker(task or file))
            out.extend(_row(r.model, r, inner=True) for r in mine if r.task == task)
    return out


def _row(name: str, reading: Reading | None, *, inner: bool) -> Whisker:
    if reading is None:
        return Whisker(name, inner)
    return Whisker(
        name, inner, reading.value, reading.low, reading.high, shown(reading, reading.value),
        reading.chance,
    )  # fmt: skip


SECTION = Section(
    name="evaluation", title="Evaluation", gather=_gather, template_values=_template_values
)
