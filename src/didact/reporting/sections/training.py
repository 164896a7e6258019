"""Training: loss, learning rate and gradient over the steps, and what the numbers come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from didact.reporting.bins import wide
from didact.reporting.curves import Line, along, curve
from didact.reporting.formatting import MINUS, compact, count, number
from didact.reporting.joints import Joint
from didact.reporting.recorded import real, whole, words
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject
from didact.reporting.training_log import Training, training


def _gather(subject: Subject) -> Training | None:
    return None if subject.training is None else training(subject.training, subject.order)


def _template_values(found: Training, header: Header) -> Mapping[str, Any]:
    return {
        "charts": _charts(found),
        "recipe": recipe(found.settings),
        "seeds": _seeds(found.seeds),
        "marked": _marked(found, header),
        "binning": _binning(found),
        "signed": _signed,
        "short": lambda value: number(None) if value is None else _short(value, 3),
    }


def recipe(settings: Mapping[str, Any]) -> str:
    """What the settings of a training say, in a sentence; "" when they say nothing."""
    out = []
    schedule, rate = words(settings.get("schedule")), real(settings.get("learning_rate"))
    final = real(settings.get("final_rate"))
    if rate is not None:
        out.append(f"learning rate {_short(rate)} at its peak")
    if schedule:
        ends = f" ending at {100 * final:.3g}% of the peak" if final is not None else ""
        out.append(f"{schedule} schedule{ends if schedule != 'constant' else ''}")
    batch_size, rank = whole(settings.get("batch_size")), whole(settings.get("lora_rank"))
    if batch_size:
        out.append(f"{count(batch_size)} samples a step")
    if "lora_rank" in settings:
        out.append(f"LoRA of rank {rank}" if rank else "full weights")
    if "average" in settings:
        average = settings["average"]
        plain = _plain(average)
        out.append(f"weights averaged ({plain})" if plain else "weights not averaged")
    text = ", ".join(out)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _plain(value: Any) -> str:
    if value in (None, False, "", "none"):
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    return _short(value) if isinstance(value, int | float) else str(value)


def _seeds(seeds: Mapping[str, int | None]) -> str:
    told = [f"{name} {'not set' if seed is None else seed}" for name, seed in seeds.items()]
    return f"Seeds: {', '.join(told)}." if told else ""


def _short(value: float, digits: int = 6) -> str:
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")


def _signed(value: float | None) -> str:
    if value is None or not value:
        return number(value)
    return f"{'+' if value > 0 else MINUS}{number(abs(value))}"


def _marked(found: Training, header: Header) -> str:
    """What the vertical lines are."""
    epochs = any(joint.starts_epoch for joint in found.joints)
    parts = any(not joint.starts_epoch for joint in found.joints)
    if not found.joints:
        return ""
    what = [f"the parts of the {header.order.name} order"] if parts else []
    what += ["epochs"] if epochs else []
    return f"Dashed vertical lines are where {' and '.join(what)} meet."


def _binning(found: Training) -> str:
    """How the loss was drawn."""
    bins = len(found.edges) - 1
    each = "steps" if bins == found.steps else f"bins of about {count(found.steps / bins)} steps"
    behind = "points: the steps" if bins == found.steps else "band: lowest to highest step of each"
    if found.window == 1:
        return f"Line: the {each}, means by learnt tokens; faint {behind}."
    never = ", never across a dashed line" if found.joints else ""
    return (
        f"Line: mean by learnt tokens over up to {found.window} neighboring {each}{never}; "
        f"faint {behind}."
    )


def _charts(found: Training) -> dict[str, str]:
    edges, loss = found.edges, found.loss
    single = len(edges) - 1 == found.steps
    log = wide((*loss.low, *loss.high))
    ticks = along(edges, found.amounts) if found.amounts else []
    x_label = "optimizer step; below it, tokens read" if ticks else "optimizer step"
    shared = found.rate is not None  # the axis is named below the lower of the two
    first, last = number(found.first_loss), number(found.last_loss)
    out = {
        "loss": curve(
            edges, [Line("", found.smooth)], joints=found.joints, said=_said(found), log=log,
            points=loss.mean if single else (),
            low=() if single else loss.low, high=() if single else loss.high,
            y_label=f"loss, nats per token{', log scale' if log else ''}",
            described=(
                f"Training loss over {count(found.steps)} steps, in nats per token: {first} in the "
                f"first tenth, {last} at the end"
            ),
            x_label="" if shared else x_label, second_ticks=() if shared else ticks,
        )
    }  # fmt: skip
    if found.rate is not None:
        peak = max(v for v in found.rate.high if v is not None)
        out["rate"] = curve(
            edges, [Line("", found.rate.mean)], joints=_unnamed(found.joints), from_zero=True,
            share_of=peak or None, height=76,
            y_label=f"learning rate, share of its peak ({_short(peak, 3)})",
            described=f"Learning rate over the same steps, as a share of {_short(peak, 3)}",
            x_label=x_label, second_ticks=ticks,
        )  # fmt: skip
    if found.norm is not None:
        log = wide((*found.norm.low, *found.norm.high))
        out["norm"] = curve(
            edges, [Line("", found.norm.mean)], joints=_unnamed(found.joints), log=log,
            low=() if single else found.norm.low, high=() if single else found.norm.high,
            from_zero=not log, height=100, x_label="optimizer step",
            y_label=f"gradient norm before clipping{', log scale' if log else ''}",
            described="L2 norm of the gradient before clipping, over the same steps",
        )  # fmt: skip
    if found.by_source is not None:
        by = found.by_source
        lines = [Line(*pair) for pair in zip(by.names, by.smooth, strict=True)]
        log = wide([v for line in by.smooth for v in line])
        out["source"] = curve(
            by.edges, lines, joints=found.joints, x_label="optimizer step", log=log,
            y_label=f"loss, nats per token{', log scale' if log else ''}", height=260,
            described=f"Training loss of {len(lines)} sources over the steps, in nats per token",
        )  # fmt: skip
    return out


def _unnamed(joints: Sequence[Joint]) -> list[Joint]:
    return [Joint(joint.at, "") for joint in joints]


def _said(found: Training) -> list[str]:
    out = []
    for i, (a, b) in enumerate(pairwise(found.edges)):
        where = f"step {b:,}" if b == a + 1 else f"steps {a + 1:,} to {b:,}"
        told = f"{where}: {number(found.loss.mean[i])} nats per token"
        if found.rate is not None and found.rate.mean[i] is not None:
            told += f", learning rate {_short(found.rate.mean[i] or 0.0)}"
        if found.norm is not None:
            told += f", gradient norm {number(found.norm.mean[i])}"
        if found.amounts:
            told += f", {compact(found.amounts[i + 1])} tokens read"
        out.append(told)
    return out


SECTION = Section(
    name="training", title="Training", gather=_gather, template_values=_template_values
)
