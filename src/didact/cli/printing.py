"""What the command line draws: tables on stdout, progress on stderr. The only user of rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from didact.accounting.devices import Rate, hours
from didact.cli.streams import GO_ON, inert
from didact.config import RunConfig
from didact.core.cost import Cost, total
from didact.core.findings import TITLE, Finding
from didact.core.manifest import things_to_know
from didact.core.pool import Pool
from didact.core.protocols import Progress as Step
from didact.pipeline import STAGES, Run
from didact.stages.spending import shared_out


@contextmanager
def progress_bars() -> Iterator[Callable[[Step], None]]:
    """A bar per stage with rate and time left, on a terminal; nothing where stderr is a file."""
    console = Console(stderr=True)
    try:
        yield from _bars(console)
    except KeyboardInterrupt:
        console.print(f"interrupted; {GO_ON}")
        raise


def _bars(console: Console) -> Iterator[Callable[[Step], None]]:
    if not console.is_terminal:
        with progress_log(console) as watch:
            yield watch
        return
    columns = (
        TextColumn("{task.description:>12}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def watch(step: Step) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=step.total, rate="", note="")
            task = tasks[step.stage]
            bars.update(task, completed=step.done, total=step.total, note=step.note)
            speed = bars.tasks[bars.task_ids.index(task)].speed
            bars.update(task, rate=_rate(speed, step.unit) if speed else "")

        yield watch


@contextmanager
def progress_log(console: Console) -> Iterator[Callable[[Step], None]]:
    """A line a minute, of work that takes longer than that: for a stderr that is a file."""
    stage, began, told, first = "", 0.0, 0.0, 0

    def watch(step: Step) -> None:
        nonlocal stage, began, told, first
        now = time.monotonic()
        if step.stage != stage:
            stage, began, told, first = step.stage, now, now, step.done
        if now - told < _LOG_SECONDS or step.done <= first:
            return
        told = now
        left = (now - began) * (step.total - step.done) / (step.done - first)
        note = f", {step.note}" if step.note else ""
        console.print(
            f"{step.stage}: {step.done:,} of {step.total:,} {step.unit}{note}, "
            f"{_duration(left)} left",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip

    yield watch


_LOG_SECONDS = 60.0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _rate(speed: float, unit: str) -> str:
    return f"{speed / 1e6:.1f} MB/s" if unit == "bytes" else f"{speed:,.0f} {unit}/s"


def stdout() -> Console:
    """The console that results go to; it wraps nothing."""
    return Console(highlight=False, soft_wrap=True)


def new_table(*columns: str) -> Table:
    """An empty table without borders, its first column on the left and numbers on the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def run_table(done: Run) -> None:
    """Stages with what came in and out and what it took; then where things are."""
    console = stdout()
    manifest, whole = done.manifest, done.manifest.bill
    table = new_table(
        "stage", "samples", "tokens", "CPU s", "now", "estimate", "wall s", "peak MiB", ""
    )
    samples = {stage.name: stage.samples for stage in STAGES}
    for record in manifest.stages:
        measured, foreseen = record.measured, record.estimated.cpu_seconds
        table.add_row(
            record.name, _number(record.counts.get(samples[record.name])),
            _number(record.counts.get("tokens")),
            *(f"{cost.cpu_seconds:.2f}" for cost in (measured.bill.value, measured.bill.charged)),
            f"{foreseen:.2f}" if foreseen else "", f"{measured.wall_seconds:.2f}",
            f"{measured.peak_memory_bytes / 2**20:.0f}", "found done" if measured.reused else "",
        )  # fmt: skip
    table.add_row(
        "run", "", "", f"{whole.value.cpu_seconds:.2f}", f"{whole.charged.cpu_seconds:.2f}"
    )
    table.columns[-1].no_wrap = True
    console.print(table)
    if whole.value.flops:
        console.print(_model_table(done))
    know_block(things_to_know(manifest.stages))
    exported = done.manifest.stage("export")
    for name in exported.outputs if exported else ():
        console.print(f"wrote {safe(done.folder / name)}")
    console.print(f"report {safe(done.folder / 'report.html')}")


def _model_table(done: Run) -> Table:
    """What models took: FLOPs of the value, those spent now, those foreseen; tokens."""
    table = new_table("stage", "FLOPs", "now", "estimate", "model tokens", "device s")
    for record in done.manifest.stages:
        bill, foreseen = record.measured.bill, record.estimated.flops
        if bill.value.flops or foreseen:
            table.add_row(
                record.name, f"{bill.value.flops:.3g}", f"{bill.charged.flops:.3g}",
                f"{foreseen:.3g}", _number(bill.value.tokens),
                f"{bill.value.device_seconds:.1f}" if bill.value.device_seconds else "",
            )  # fmt: skip
    return table


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def dry_run_table(
    config: RunConfig, pool: Pool, costs: Mapping[str, Cost], at: Rate | None = None
) -> None:
    """The plan of a run: stages, methods, and the cost of those that are estimated.

    With a device's rate, how long their FLOPs take there; CPU seconds are no part of that.
    """
    time_there = () if at is None else (f"on {at.device}",)
    table = new_table("stage", "does", "estimated CPU s", "estimated FLOPs", *time_there)
    for stage in STAGES:
        if not stage.wanted(config):
            continue
        cost = costs.get(stage.name)
        shown: tuple[str, ...] = ("", "")
        if cost is not None:  # the seconds of a model depend on the machine, its FLOPs do not
            seconds = "" if cost.flops and not cost.cpu_seconds else f"{cost.cpu_seconds:.2f}"
            shown = (seconds, f"{cost.flops:.3g}", *_time_at(cost.flops, at))
        table.add_row(stage.name, stage.does(config), *shown)
    whole = total(costs.values())
    table.add_row(
        "sum of these", "", f"{whole.cpu_seconds:.2f}", f"{whole.flops:.3g}",
        *_time_at(whole.flops, at),
    )  # fmt: skip
    console = stdout()
    console.print(
        f"{len(pool):,} samples, {pool.stats.n_tokens:,} tokens by {pool.token_counter}"
        + (" (an estimate)" if pool.tokens_are_estimated else "")
    )
    console.print(table)
    if (spending := shared_out(config, costs)) is not None:
        console.print(str(spending))
    if at is not None and whole.flops:
        console.print(f"time for the FLOPs on one {at.device}: {at.source}")


def _time_at(flops: float, at: Rate | None) -> tuple[str, ...]:
    """A range of times in one unit: "12-20 h"; nothing where there are no FLOPs."""
    if at is None:
        return ()
    if not flops:
        return ("",)
    found = hours(flops, at)
    unit, size = next(
        (each for each in (("s", 1 / 3600), ("min", 1 / 60)) if found.high < 120 * each[1]),
        ("h", 1.0),
    )
    low, high = (f"{each / size:.2g}" if each < 100 * size else f"{each / size:,.0f}"
                 for each in (found.low, found.high))  # fmt: skip
    return (f"{low} {unit}" if low == high else f"{low}-{high} {unit}",)


def facts_table(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    table = new_table("", "")
    table.show_header = False
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), safe(_shown(value)))
    table.columns[1].justify = "left"
    stdout().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        parts = [f"{k} {_shown(v)}" for k, v in list(value.items())[:12]]
        more = f", … {len(value) - 12} more" if len(value) > 12 else ""
        return ", ".join(parts) + more
    if isinstance(value, list | tuple):
        return ", ".join(_shown(v) for v in value) if value else "none"
    return "none" if value is None else str(value)


def inspection_table(result: Mapping[str, Any]) -> None:
    """What `didact inspect` found."""
    facts_table({k: v for k, v in result.items() if k not in {"examples", "findings"}})
    know_block([Finding(**found) for found in result["findings"]])
    console = stdout()
    for i, example in enumerate(result["examples"], 1):
        console.print(
            f"\n[bold]sample {i}[/bold]  {safe(example['id'])}  ({safe(example['source'])})"
        )
        for name in ("prompt", "completion", "text"):
            if example.get(name):
                console.print(f"  [dim]{name}[/dim] {safe(example[name])}")


def know_block(findings: Sequence[Finding | str], write: Console | None = None) -> None:
    """What should be known, under one heading; nothing where there is nothing."""
    if findings:
        console = write or stdout()
        console.print(f"\n[bold]{TITLE}[/bold]")
        for found in findings:
            console.print(f"- {safe(found)}")


def safe(text: object) -> str:
    """Text for the console: no markup, control characters as escapes, so that it cannot steer."""
    return escape(inert(str(text)))


def methods_table(methods: Sequence[Mapping[str, Any]], *, detailed: bool) -> None:
    """What `didact methods` lists."""
    console = stdout()
    if detailed:
        for method in methods:
            console.print(f"[bold]{method['name']}[/bold] ({method['stage']})\n")
            console.print(escape(method["documentation"]))
            for title, settings in (
                ("settings", method["settings"]),
                (f"with every {method['stage']}", method["around"]),
            ):
                console.print(f"\n{title}:" if settings else "")
                for name, setting in settings.items():
                    console.print(
                        f"  {name}: {escape(setting['type'])} = {escape(setting['default'])}"
                    )
        return
    table = new_table("method", "stage", "does", "settings")
    for column in table.columns:
        column.justify = "left"
    for method in methods:
        settings = ", ".join(f"{k}={v['default']}" for k, v in method["settings"].items())
        table.add_row(method["name"], method["stage"], escape(method["does"]), escape(settings))
    Console(highlight=False).print(table)


_LIKELIHOODS = {"bits_per_byte": "bits/byte", "bits_per_byte_all": "of everything"}
_CHOICES = {
    "accuracy": "accuracy", "chance": "chance", "accuracy_per_char": "by char",
    "answer_nats_per_char": "nats/char", "answer_probability": "prob.", "margin": "margin",
}  # fmt: skip
_LEAST_VALUE: Final = 12  # columns of a value beside its name
_BRACKETED = ("bits_per_byte", "accuracy")


def evaluation_table(records: Sequence[Mapping[str, Any]]) -> None:
    """What `didact evaluate` found: for each file its likelihoods, then its multiple choice."""
    console = stdout()
    for file in dict.fromkeys(record["file"] for record in records):
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for record in records:
            if record["file"] == file:
                of = record["source"] or (record["task"] and f"task {record['task']}") or "all"
                found.setdefault(of, {})[record["metric"]] = record
        if len(found) == 2:
            found.pop(next(of for of in found if of != "all"))
        for metrics in (_LIKELIHOODS, _CHOICES):
            first = next(iter(metrics))
            if any(first in of for of in found.values()):
                console.print(_metrics_table(file, found, metrics))
    console.print(
        "bits/byte and nats/char: lower is better. In brackets: 95 % over samples, for this model\n"
        "alone; two models are told apart over runs (seed and draw): didact evaluate --runs",
        style="dim", markup=False,
    )  # fmt: skip


def _metrics_table(
    file: str, found: Mapping[str, Mapping[str, Mapping[str, Any]]], metrics: Mapping[str, str]
) -> Table:
    first = next(iter(metrics))
    table = new_table(safe(file), "n", *metrics.values())
    for column in table.columns[1:]:
        column.no_wrap = True
    for of, values in found.items():
        if first in values:
            shown = (_value(values[m], bracketed=m in _BRACKETED) for m in metrics if m in values)
            table.add_row(safe(of), f"{values[first]['n']:,}", *shown)
    return table


def records_table(records: Sequence[Mapping[str, Any]]) -> None:
    """Results of lm-eval, one a line."""
    table = new_table("task", "metric", "value", "n")
    for record in records:
        n = "" if record["n"] is None else f"{record['n']:,}"
        table.add_row(
            safe(record["task"]), safe(record["metric"]), _value(record, bracketed=True), n
        )
    if records:
        stdout().print(table)


def _value(record: Mapping[str, Any], *, bracketed: bool) -> str:
    """A value and, in brackets, its interval."""
    value, low, high = (record[name] for name in ("value", "low", "high"))
    ends = f" \\[{low:.2f}, {high:.2f}]" if bracketed and low is not None else ""
    return f"{value:.3f}{ends}"


def diff_table(result: Mapping[str, Any]) -> None:
    """What `didact diff` found."""
    if result["equal"]:
        stdout().print("the runs are equal, apart from what was measured")
    tabled = ("config", "environment", "counts", "cost", "flops")
    rows = [
        (safe(f"{section}.{name}" + (" CPU s" if section == "cost" else "")),
         safe(_shown(a)), safe(_shown(b)))
        for section in tabled
        for name, (a, b) in result[section].items()
    ]  # fmt: skip
    _pairs_table(rows)
    for name in result:  # what stages say of their values, theirs and yours
        if name not in {"equal", *tabled}:
            stdout().print(f"{name.replace('_', ' ')}: {safe(_shown(result[name]))}")


def _pairs_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """Names with two values each; under one another where a name leaves no room for them."""
    console = stdout()
    widest = max((len(name) for name, *_ in rows), default=0)
    if widest + 2 * _LEAST_VALUE + 4 > console.width:
        for name, a, b in rows:
            console.print(f"{name}\n  A  {a}\n  B  {b}")
        return
    table = new_table("", "A", "B")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    console.print(table)


def apart_table(result: Mapping[str, Any]) -> None:
    """What `verbs.tell_apart` found: a table of sets for every measure, then what it comes to."""
    console = stdout()
    for i, told in enumerate(result["tasks"]):
        size = f"{told['size']:,} parameters" if told["size"] else ""
        parts = (told["file"], told["task"], told["metric"].replace("_", " "), size)
        better = "higher is better" if told["higher_is_better"] else "lower is better"
        title = " · ".join(safe(part) for part in parts if part)
        console.print("\n" * (i > 0) + f"[bold]{title}[/bold] ({better})")
        table = new_table("set", "mean", "95 %", "SD of runs", "runs")
        for row in told["sets"]:
            interval = "" if row["low"] is None else f"{row['low']:.5g} to {row['high']:.5g}"
            runs = f"{row['runs']:,}" + (f" of {row['draws']} draws" if row["draws"] else "")
            table.add_row(
                safe(row["set"]), f"{row['mean']:.5g}", interval,
                "" if row["sd"] is None else f"{row['sd']:.2g}", runs,
            )  # fmt: skip
        console.print(table)
        for sentence in told["sentences"]:
            console.print(safe(sentence))
    for note in result["notes"]:
        console.print(f"note: {safe(note)}")


def cache_table(result: Mapping[str, Any]) -> None:
    """What `didact cache ls` found."""
    table = new_table("kind", "entries", "size", "CPU s", "FLOPs", "last used")
    for row in result["kinds"]:
        table.add_row(
            row["kind"], f"{row['entries']:,}", _size(row["bytes"]), f"{row['cpu_seconds']:.1f}",
            f"{row['flops']:.3g}" if row["flops"] else "", row["last_used"] or "",
        )  # fmt: skip
    table.add_row("", f"{result['entries']:,}", _size(result["bytes"]))
    console = stdout()
    console.print(safe(result["cache"]))
    console.print(table)


def _size(n_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"
