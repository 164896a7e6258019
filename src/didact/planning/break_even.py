"""When a method that costs compute to select pays: at which sizes, budgets, numbers of tasks.

Everything is in shares of one full training pass over the pool. A method with rate λ whose
selection costs s leaves at a total budget β the gap A · e^(−λ(β − s)) below the end. Two methods
are equal where the logarithms of their gaps are; so each question has a closed form, of which the
paper's case of one P0 for all is ln(A' ÷ A) = 0. The rival's symbols have a prime.

**Source:** derived from the law of Yin and Rush (arXiv:2410.16208), whose "5×" and "10×" are read
off a simulation with rates 5, 10, 40 and 80.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = float | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of two methods that are compared; arrays are draws, of one length.

    Attributes:
        rate: λ, per full pass.
        selection: What selection costs. In `ratio`, training passes of the *scoring* model over
            the pool (perplexity ⅓, one gradient 1, LESS as drawn 1.8, LESS with four checkpoints
            4.2); elsewhere a share of a full pass of the *trained* model.
        amplitude: A = P̄ − P0; the same number on both sides where they start from one model.
    """

    rate: Numbers
    selection: float = 0.0
    amplitude: Numbers = 1.0


def ratio(method: Side, rival: Side, budget: float) -> npt.NDArray[np.float64]:
    """Size of the trained over the scoring model from which on a method beats a cheaper rival.

    ratio = (λ s − λ' s') ÷ ((λ − λ') β + ln(A' ÷ A)), and at least s ÷ β, where selection is paid.

    Args:
        method: The one that costs more to select.
        rival: The other, its selection by a model of the same size.
        budget: β, share of a full pass.

    Returns:
        Infinite where no ratio is enough: the law has the rival ahead even if selection were free.
    """
    least = method.selection / budget
    wanted = _threshold(
        np.asarray(method.rate) * method.selection - np.asarray(rival.rate) * rival.selection,
        _advantage(method, rival, budget),
    )
    return np.maximum(wanted, least)


def tasks(method: Side, rival: Side, budget: float) -> npt.NDArray[np.float64]:
    """Number of tasks that share a selection from which on it beats a rival.

    Each task has the budget β and pays an n-th of the selection:
    n = λ s ÷ ((λ − λ') β + λ' s' + ln(A' ÷ A)), and at least s ÷ β.

    Args:
        method: The one whose selection is shared.
        rival: The other; its selection is paid by each task.
        budget: β of each task, share of a full pass.

    Returns:
        Real numbers, to be rounded up; up to 1 where one task is enough, infinite where no number
        is.
    """
    rival_paid = np.asarray(rival.rate) * rival.selection
    advantage = _advantage(method, rival, budget) + rival_paid
    shared = np.asarray(method.rate) * method.selection
    return np.maximum(_threshold(shared, advantage), method.selection / budget)


def crossing(method: Side, rival: Side, full_flops: float = 1.0) -> npt.NDArray[np.float64]:
    """The total budget at which two methods are worth the same.

    K = (λ S − λ' S' + C · ln(A ÷ A')) ÷ (λ − λ').

    Args:
        method: The one that learns faster from its samples.
        rival: The other.
        full_flops: FLOPs of a full pass; 1 gives shares of it.

    Returns:
        In FLOPs; infinite where the method is not the faster one.
    """
    rate, rival_rate = np.asarray(method.rate), np.asarray(rival.rate)
    paid = rate * method.selection - rival_rate * rival.selection
    return full_flops * _threshold(paid + _log_ratio(method, rival), rate - rival_rate)


def per_task(selection_flops: float, training_flops: float, n: int) -> tuple[float, float]:
    """FLOPs of one task when n share a selection, and selection's share of them."""
    part = selection_flops / n
    return part + training_flops, part / (part + training_flops)


def _advantage(method: Side, rival: Side, budget: float) -> npt.NDArray[np.float64]:
    """By how much the logarithm of the gap is smaller at a budget when selection is free."""
    faster = (np.asarray(method.rate) - np.asarray(rival.rate)) * budget
    return np.asarray(faster - _log_ratio(method, rival))


def _log_ratio(method: Side, rival: Side) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(np.asarray(method.amplitude) / np.asarray(rival.amplitude)))


def _threshold(paid: Any, gained: Any) -> npt.NDArray[np.float64]:
    """Paid ÷ gained, above which it pays: infinite where nothing is gained, 0 where it is free."""
    paid, gained = np.broadcast_arrays(np.asarray(paid, np.float64), np.asarray(gained, np.float64))
    out = np.full(paid.shape, np.inf)
    np.divide(paid, gained, out=out, where=gained > 0)
    return np.asarray(np.maximum(out, 0.0))
