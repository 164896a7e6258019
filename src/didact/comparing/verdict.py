"""The verdict of a comparison in words: does any way to choose beat random samples, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from didact.analysis.told import LEAST_SNR
from didact.planning.compared import LEAST_SEEDS
from didact.planning.comparison import ALL, BASE, RANDOM, Arm, Comparison, contest, labelled
from didact.planning.pilot import WORTH_FINDING

Json = Mapping[str, Any]
_SMALL = 15e6  # parameters below which the order of methods is known to change with size


def verdict(found: Comparison) -> dict[str, Any]:
    """Code and text.

    `select` where some arm is told apart from random samples for the better, on a task whose runs
    rank; `random` where none is, and a difference worth finding would have been found; `unknown`
    where runs rank nothing, or would not have found it.
    """
    seeds = max((arm.seeds for arm in found.arms if arm.method not in {BASE, ALL}), default=0)
    text = [*_unpaid(found), *_ends(found)]
    if seeds < LEAST_SEEDS:
        first = "One seed: how far equal trainings come apart is not known, so nothing is ranked."
        return {"code": "unknown", "text": " ".join([first, "Give two seeds or more.", *text])}
    ranking = {c for c, snr in found.snr.items() if snr is not None and snr >= LEAST_SNR}
    quiet = sorted(found.snr.keys() - ranking)
    once = [d for d in found.differences if not d["filled"]]
    told = [d for d in once if _where(d) in ranking]
    noise = [
        f"{where}: signal to noise {_snr(found, where)}, below {LEAST_SNR:g}: nothing is ranked."
        for where in quiet
    ]
    if not told:
        return {
            "code": "unknown",
            "text": " ".join(
                ["Nobody can know from these runs: no task tells arms apart.", *noise, *text]
            ),
        }
    better = [d for d in told if d["better"] and not d["tie"]]
    worse = [d for d in told if not d["better"] and not d["tie"]]
    ties = [d for d in told if d["tie"] and not d["shares_runs"]]
    head = (
        [f"Better than random samples at equal total compute: {_listed(better)}."]
        if better
        else ["No way to choose is told to beat random samples at equal total compute."]
    )
    if worse:
        head.append(f"Worse: {_listed(worse)}.")
    if ties:
        head.append(f"Ties with random samples: {_listed(ties)}.")
    head += [
        f"{where}: differences below {_number(found, where)} could not be "
        f"found{_of_gap(found, where)}."
        for where in sorted(ranking)
        if _number(found, where)
    ]
    blunt = any(_blunt(found, _where(d)) for d in ties)
    code = "select" if better else "unknown" if blunt else "random"
    return {
        "code": code,
        "text": " ".join([*head, *noise, *_paying(found, ranking), *text]),
    }


def _where(difference: Json) -> str:
    return contest(difference["task"], difference["base"])


def _listed(differences: Sequence[Json]) -> str:
    """Arms with the budgets at which they are so, task by task."""
    out: dict[tuple[str, str], list[str]] = {}
    for d in differences:
        name = labelled(d["arm"], d["setting"])
        out.setdefault((_where(d), name), []).append(f"{d['beta']:g}")
    parts = [f"{name} on {where} at {', '.join(betas)}" for (where, name), betas in out.items()]
    return "; ".join(parts)


def _paying(found: Comparison, ranking: set[str]) -> Iterator[str]:
    """Whether scoring that takes FLOPs earns them back, the best of each kind side by side."""
    for d in (found.about or {}).get("paying") or ():
        if _where(d) in ranking:
            said = "ties with" if d["tie"] else "beats" if d["better"] else "loses to"
            name = labelled(d["arm"], d["setting"])
            yield (
                f"{_where(d)} at {d['beta']:g}: {name}, the best that pays for scores, {said} "
                f"{d['against']}, the best that does not."
            )


def _unpaid(found: Comparison) -> Iterator[str]:
    """Arms whose scoring no budget pays for, and what failed."""
    arms = [a for a in found.arms if a.method not in {BASE, ALL, RANDOM}]
    paid = {a.name for a in arms if a.feasible}
    never = [a for a in arms if a.name not in paid]
    scored = dict.fromkeys(a.name for a in never if a.selection_flops >= a.k_flops)
    if scored:
        yield f"No budget pays for the scoring of {', '.join(scored)}."
    if stepless := {a.name: None for a in never}.keys() - scored.keys():
        names = ", ".join(sorted(stepless))
        yield f"No budget pays a step of training after the scoring of {names}."
    failed = dict.fromkeys(a.name for a in found.arms if a.status == "failed")
    if failed:
        yield f"Failed, and not told: {', '.join(failed)}."


def _ends(found: Comparison) -> Iterator[str]:
    """What the whole pool is worth, and what the size of the model lets one say."""
    for where in dict.fromkeys(arm.contest for arm in found.arms):
        ends = _of_ends(found, where)
        if len(ends) == 2 and ends[ALL].performance <= ends[BASE].performance:
            yield (
                f"{where}: all data ({ends[ALL].value:.4g}) are no better than the base model "
                f"({ends[BASE].value:.4g}): nothing in the pool helps there."
            )
    largest = max(arm.train_params for arm in found.arms)
    if largest < _SMALL:
        yield (
            f"The models have {largest:.3g} parameters; below 15M the order of methods is known to "
            "change with size (rank correlation with 1B about .7 at 1M, arXiv:2602.12237)."
        )


def _of_ends(found: Comparison, where: str) -> dict[str, Arm]:
    """The base model and all data of a contest, where they have a value."""
    return {
        arm.method: arm
        for arm in found.arms
        if arm.contest == where and arm.method in {BASE, ALL} and arm.chosen
        and arm.value is not None
    }  # fmt: skip


def _gap(found: Comparison, where: str) -> float | None:
    """What all data are better than the base model; None where that is not known or nothing."""
    ends = _of_ends(found, where)
    gap = ends[ALL].performance - ends[BASE].performance if len(ends) == 2 else 0.0
    return gap if gap > 0 else None


def _share(found: Comparison, where: str) -> float | None:
    """The smallest difference that would have been found, as a share of the gap."""
    least = ((found.about or {}).get("detectable") or {}).get(where)
    gap = _gap(found, where)
    return None if least is None or gap is None else float(least) / gap


def _blunt(found: Comparison, where: str) -> bool:
    """Whether a difference that is worth finding would have been missed."""
    share = _share(found, where)
    return share is None or share > WORTH_FINDING


def _of_gap(found: Comparison, where: str) -> str:
    share = _share(found, where)
    return "" if share is None else f", {share:.0%} of what all data gain on the base model"


def _snr(found: Comparison, where: str) -> str:
    snr = found.snr[where]
    return "not known" if snr is None else f"{snr:.2g}"


def _number(found: Comparison, where: str) -> str:
    least = ((found.about or {}).get("detectable") or {}).get(where)
    return "" if least is None else f"{least:.3g}"
