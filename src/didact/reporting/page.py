"""The report as one self-contained HTML file: no network, no script, readable on paper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from didact.core.atomic import write_text
from didact.core.manifest import StageRecord
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.reporting import charts, formatting
from didact.reporting.content import Report, Scoring, gather
from didact.reporting.redundancy import Redundancy
from didact.reporting.samples import Sample, Turn
from didact.reporting.sequence import Along, Course

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
PREVIEW = 420
CONFIG_CAP = 20_000
WIDE = 20  # largest ÷ smallest value from which an axis is logarithmic
_LOG = ", log scale"
LITTLE_TEXT = 100_000  # bytes of a set; below it a few samples decide its ratio


def write_report(
    path: str | Path,
    *,
    pool: Pool,
    scores: Scores | None,
    selection: Selection,
    order: TrainingOrder,
    ctx: Context,
    order_scores: Scores | None = None,
    stages: Sequence[StageRecord] = (),
    config: Mapping[str, Any] | None = None,
    samples: bool = True,
    output_files: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Write one self-contained HTML file about a run.

    Equal values give equal bytes.

    Args:
        path: The file; replaced in one step once it is complete.
        pool: What was chosen from.
        scores: What was chosen by, or None.
        selection: The choice.
        order: Its sequence.
        ctx: Seed of the random sets.
        order_scores: What was ordered by, if other than `scores`.
        stages: Records of the stages so far, for the cost table.
        config: The resolved config.
        samples: False leaves all user text out, ids included.
        output_files: What was exported, relative to the report where possible.
        environment: Versions a result may depend on.

    Returns:
        What the page says, for machines: `to_json()`.

    Raises:
        PoolMismatchError: One of the values belongs to another pool.

    **Cost:** about two seconds for 150,000 rows of 600 bytes on one core of 2021, two thirds of
    them for compressing; the pool's texts pass through memory batch by batch.
    """
    report = gather(
        pool=pool, scores=scores, order_scores=order_scores, selection=selection, order=order,
        stages=stages, config=config or {}, samples=samples, ctx=ctx, output_files=output_files,
        environment=environment,
    )  # fmt: skip
    write_text(Path(path), render(report))
    return report


def render(report: Report) -> str:
    """The page as HTML."""
    import yaml

    settings = yaml.safe_dump(_plain(report.config), sort_keys=False, allow_unicode=True)
    return _template().render(
        r=report,
        charts=_charts(report),
        style=(TEMPLATES / "report.css").read_text("utf-8"),
        tokens="tokens (estimate)" if report.tokens_estimated else "tokens",
        about=lambda text: f"≈ {text}" if report.tokens_estimated else text,
        redundancy_says=_redundancy_says(report.redundancy),
        config=formatting.shorten(settings, CONFIG_CAP),
        widest=max(report.flow.read, report.flow.pool),
        beyond=formatting.count(report.scores.beyond) if report.scores else "",
        binning=_binning(report.along),
        sweeps=len(report.along.layer_joints) // report.epochs + 1 if report.along else 0,
        models=any(c.flops or c.estimated_flops or c.device_seconds for c in report.costs),
    )


def _binning(along: Along | None) -> str:
    """How the lines along the order were made."""
    if along is None:
        return ""
    bins = len(along.tokens.edges) - 1
    if bins == along.length:
        return "One point per sample."
    per_bin = formatting.count(along.length / bins)
    what = "optimizer step" if bins == along.steps else f"bin of about {per_bin} samples"
    return f"Line: mean of each {what}; band: its 10% and 90% quantiles."


def preferred(scoring: Scoring) -> str:
    """The direction of a score in words."""
    return "higher is preferred" if scoring.higher_is_better else "lower is preferred"


def preview(sample: Sample) -> tuple[list[Turn], list[Turn]]:
    """What of a sample is seen at once, and what a reader has to open."""
    head: list[Turn] = []
    tail: list[Turn] = []
    room = PREVIEW
    for turn in sample.turns:
        # A rest of a few words is not worth a click.
        if tail or room <= 0:
            tail.append(turn)
            continue
        cut = len(turn.text) if len(turn.text) <= room + 80 else _between_words(turn.text, room)
        head.append(Turn(turn.role, turn.text[:cut]))
        if cut < len(turn.text):
            tail.append(Turn("", turn.text[cut:]))
        room -= cut
    return head, tail


def _between_words(text: str, at_most: int) -> int:
    """Where to break a text: after the last space, if there is one not far before the limit."""
    space = text.rfind(" ", max(at_most - 40, 0), at_most)
    return at_most if space < 0 else space + 1


def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    for name in ("count", "compact", "percent", "change", "number", "seconds", "byte_size"):
        environment.filters[name] = getattr(formatting, name)
    environment.filters["href"] = href
    environment.globals.update(
        change=formatting.change,
        facts=lambda found: ", ".join(f"{k}: {v}" for k, v in found.items())[:2000],
        mean=lambda amount: amount.tokens / amount.samples if amount.samples else None,
        megabytes=lambda n: f"{formatting.compact(n)}B".replace("kB", " kB").replace("MB", " MB"),
        or_none=lambda value: value or None,
        preferred=preferred,
        preview=preview,
        share=lambda part, whole: part / whole if whole else None,
    )
    return environment.get_template("report.html")


def _shown(value: Any) -> Any:
    """Every text that enters the page passes here, then through the escaping of the template."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return formatting.visible(value)
    return value


def href(file: str) -> str:
    """A link to a local file: never another scheme, whatever the file is called."""
    path = Path(file)
    quoted = quote(os.fsencode(path))
    return f"file://{quoted}" if path.is_absolute() else f"./{quoted}"


def _charts(report: Report) -> dict[str, Any]:
    """Every chart of the page, as markup."""
    from markupsafe import Markup

    tokens = "tokens per sample" + (" (estimate)" if report.tokens_estimated else "")
    out = {
        "sources": charts.dumbbells(
            [(s.name, s.share_before, s.share_after) for s in report.sources.shown],
            described="Share of samples by source, in the pool and among the chosen",
            x_label="share of samples",
        ),
        "lengths": charts.histogram(
            report.lengths.edges, report.lengths.pool, report.lengths.chosen, log=True,
            described="Distribution of lengths, pool and chosen", x_label=f"{tokens}, log scale",
        ),
    }  # fmt: skip
    if report.scores is not None and report.scoring is not None:
        name = formatting.shorten(formatting.visible(report.scoring.method.name), 20)
        out["scores"] = charts.histogram(
            report.scores.edges, report.scores.pool, report.scores.chosen,
            cuts=report.cut.at if report.cut else (), log=report.scores.log,
            described=f"Distribution of {name} scores, pool and chosen",
            x_label=f"{name} score, {preferred(report.scoring)}{_LOG if report.scores.log else ''}",
        )  # fmt: skip
    if report.redundancy is not None:
        out["redundancy"] = charts.dots(
            report.redundancy.chosen,
            report.redundancy.random,
            described=_redundancy_says(report.redundancy),
            x_label="raw ÷ compressed bytes, more = repeats more",
            names=("chosen set", f"{len(report.redundancy.random)} random sets"),
        )
    if report.along is not None:
        out |= _order_charts(report.along, tokens)
    return {name: Markup(chart) for name, chart in out.items()}  # noqa: S704 - charts escape


def _order_charts(along: Along, tokens: str) -> dict[str, str]:
    per_x = along.batch_size or 1
    x_label = f"optimizer step ({per_x:,} samples each)" if along.batch_size else "samples read"
    out = {}
    if along.score is not None:
        name = formatting.shorten(formatting.visible(along.score_method or ""), 20)
        direction = "higher" if along.higher_is_better else "lower"
        wide = _wide(along.score)
        out["order_score"] = charts.course(
            along.score.edges, along.score.mean, along.score.low, along.score.high,
            joints=along.joints, per_x=per_x, x_label=x_label, log=wide,
            y_label=f"{name} score, {direction} is preferred{_LOG if wide else ''}",
            described=f"{along.score_method} score along the training order",
        )  # fmt: skip
    wide = _wide(along.tokens)
    out["order_tokens"] = charts.course(
        along.tokens.edges, along.tokens.mean, along.tokens.low, along.tokens.high,
        joints=along.joints, per_x=per_x, x_label=x_label, from_zero=not wide, log=wide,
        y_label=tokens + (_LOG if wide else ""),
        described="Tokens per sample along the training order", height=140,
    )  # fmt: skip
    if along.mix is not None:
        out["order_mix"] = charts.layers(
            along.mix.edges, along.mix.shares, along.mix.names, per_x=per_x, x_label=x_label,
            described="Sources along the training order",
        )  # fmt: skip
    return out


def _wide(course: Course) -> bool:
    """Whether a linear axis would hide most of a quantity: positive, and of many magnitudes."""
    known = [v for v in (*course.low, *course.high) if v is not None]
    return bool(known) and min(known) > 0 and max(known) > WIDE * min(known)


def _redundancy_says(found: Redundancy | None) -> str:
    """The comparison in a sentence."""
    if found is None:
        return ""
    n, by = len(found.random), found.chosen / found.mean - 1
    size = formatting.percent(abs(by))
    little = found.bytes < LITTLE_TEXT
    rough = "So little text makes this a rough comparison."
    if found.chosen > max(found.random):
        return (
            f"The chosen set repeats itself more than any of {n} random sets of equal bytes: it "
            f"compresses {size} further than their mean. "
        ) + (
            rough if little else "The choice gathers text that repeats, within samples or between "
            "them, so that it holds less that is new per byte than chance would give."
        )  # fmt: skip
    if found.chosen < min(found.random):
        return (
            f"The chosen set repeats itself less than any of {n} random sets of equal bytes: it "
            f"compresses {size} less than their mean. "
        ) + (
            rough if little else "The choice gathers text that differs, within samples and between "
            "them, so that it holds more that is new per byte than chance would give."
        )  # fmt: skip
    return (
        f"The chosen set repeats itself as much as {n} random sets of equal bytes do: it lies "
        "within their range. "
    ) + (rough if little else "By this measure the choice is as varied as chance.")


def _plain(value: Any) -> Any:
    """Values YAML can write."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
