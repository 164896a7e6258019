"""The seven published panels: three tasks, three sizes of Llama-2, five methods, six fractions.

**Source:** Yin and Rush, "Compute-Constrained Data Selection" (ICLR 2025, arXiv:2410.16208; code
`oseyosey/CCDS`). The values and FLOPs are read off the vector graphics of its figures, exact to
about 0.005 points and four digits. The pool has 270,679 samples (FLAN v2, CoT, Dolly, OASST1); the
scoring model is Llama-2 7B throughout, the encoder of `embed` is gtr-t5-base and is drawn as
free. Values are means over seeds whose spread is not published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np

from didact.core.arrays import Float2D, frozen
from didact.core.errors import ConfigError, did_you_mean
from didact.planning.law import Curve

Size: TypeAlias = Literal["7B", "13B", "70B"]

METHODS: Final = ("random", "bm25", "embed", "perplexity", "less")
FRACTIONS: Final = (0.025, 0.05, 0.1, 0.25, 0.5)  # of the pool, below the whole of it
SELECTOR_PARAMS: Final = 7e9

# FLOPs of scoring the pool as the figures add them; 1 and 5.4 forward passes of the 7B model.
SELECTION_FLOPS: Final[Mapping[str, float]] = MappingProxyType(
    {"random": 0.0, "bm25": 0.0, "embed": 0.0, "perplexity": 1.531e18, "less": 8.269e18}
)

# FLOPs of training at 2.5, 5, 10, 25, 50 and 100 % as drawn. The 7B row is 4.593e18 times the
# fraction to the last digit; 5 and 10 % of 70B are not, and no explanation was found.
TRAINING_FLOPS: Final[Mapping[Size, tuple[float, ...]]] = MappingProxyType(
    {
        "7B": (1.148e17, 2.297e17, 4.593e17, 1.148e18, 2.297e18, 4.593e18),
        "13B": (2.159e17, 4.319e17, 8.638e17, 2.159e18, 4.319e18, 8.638e18),
        "70B": (1.232e18, 2.463e18, 4.930e18, 1.232e19, 2.463e19, 4.926e19),
    }
)

Drawn: TypeAlias = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Panel:
    """One task and one size of the trained model.

    Attributes:
        task: What is evaluated.
        size: Of the trained model.
        values: Accuracy in percent, one row for each of `METHODS`, one column for each of
            `FRACTIONS`.
        full: Accuracy of the full pass, the same for all methods.
        drawn_end: The P̄ that the published curves end at.
        drawn: λ and P0 of the published curves by method, fitted to *total* compute.
        drawn_full: Accuracy at the full pass by method where the figure differs from `full`.
        twice: Accuracy at twice the full compute, where it was drawn.
        drawn_values: Where the two figures of one panel differ, (method, fraction) → the value in
            the figure with the fitted curves.
        drawn_flops: Likewise, total FLOPs where the point stands elsewhere than it should.
        slope: Points per decade of the drawn frontier.
        front: The points (method, fraction) whose line has that slope, the full pass left out;
            empty where no choice of points was found that has it.
    """

    task: str
    size: Size
    values: Float2D
    full: float
    drawn_end: float
    drawn: Drawn
    slope: float
    front: tuple[tuple[str, float], ...] = ()
    drawn_full: Mapping[str, float] = field(default_factory=dict)
    twice: float | None = None
    drawn_values: Mapping[tuple[str, float], float] = field(default_factory=dict)
    drawn_flops: Mapping[tuple[str, float], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Task and size."""
        return f"{self.task} {self.size}"

    @property
    def full_flops(self) -> float:
        """FLOPs of training on the whole pool."""
        return TRAINING_FLOPS[self.size][-1]

    @property
    def n_params(self) -> float:
        """Parameters of the trained model, nominal."""
        return float(self.size.removesuffix("B")) * 1e9

    def selection(self, method: str) -> float:
        """What scoring costs, as share of a full pass."""
        return SELECTION_FLOPS[method] / self.full_flops


@dataclass(frozen=True, slots=True)
class Point:
    """One trained model of a panel.

    Attributes:
        method: What chose its data.
        fraction: Of the pool.
        flops: Total, selection and training.
        value: Accuracy in percent.
    """

    method: str
    fraction: float
    flops: float
    value: float


def points(of: Panel) -> tuple[Point, ...]:
    """All points of a panel, at the costs that were drawn; the full pass is random's."""
    fractions = (*FRACTIONS, 1.0)
    found = [
        Point(method, fraction, flops + SELECTION_FLOPS[method], value)
        for method, row in zip(METHODS, of.values, strict=True)
        for fraction, flops, value in zip(
            fractions, TRAINING_FLOPS[of.size], (*row.tolist(), of.full), strict=True
        )
    ]
    return tuple(point for point in found if point.fraction < 1 or point.method == "random")


def panel(name: str) -> Panel:
    """The panel of a name such as "MMLU 7B".

    Raises:
        ConfigError: There is none.
    """
    for found in PANELS:
        if found.name == name:
            return found
    known = [found.name for found in PANELS]
    raise ConfigError(f"there is no published panel {name!r}{did_you_mean(name, known)}")


def curves(of: Panel) -> tuple[Curve, ...]:
    """The methods' curves over training compute, the five fractions below the whole pool."""
    return tuple(
        Curve(method, np.array(FRACTIONS), row)
        for method, row in zip(METHODS, of.values, strict=True)
    )


def drawn_curves(of: Panel, *, total: bool = True) -> tuple[Curve, ...]:
    """The points that the published curves were fitted to, and their compute as it was taken.

    Each method's curve has the full pass as its last point, and twice the full pass where that was
    drawn. The slips of the figures are kept.

    Args:
        of: The panel.
        total: Compute of selection and training, as published, where an expensive method's curve
            starts far from 0 and its P0 falls to the bound; False for training alone.
    """
    out = []
    for method, row in zip(METHODS, of.values, strict=True):
        spent = SELECTION_FLOPS[method]
        flops = [
            of.drawn_flops.get((method, fraction), fraction * of.full_flops + spent)
            for fraction in FRACTIONS
        ]
        values = [
            of.drawn_values.get((method, fraction), value)
            for fraction, value in zip(FRACTIONS, row.tolist(), strict=True)
        ]
        flops.append(of.full_flops + spent)
        values.append(of.drawn_full.get(method, of.full))
        if of.twice is not None:
            flops.append(2 * of.full_flops + spent)
            values.append(of.twice)
        paid = np.array(flops) - (0 if total else spent)
        out.append(Curve(method, paid / of.full_flops, np.array(values)))
    return tuple(out)


def at_budget(of: Panel, share: float) -> dict[str, float]:
    """What each method is worth when selection and training together have a budget.

    Between measured points values are interpolated over the logarithm of total compute.

    Args:
        of: The panel; the values are those of the figure with the fitted curves.
        share: Total budget, share of a full pass.

    Returns:
        NaN for methods whose cheapest point costs more.
    """
    return {
        curve.method: math.nan
        if share < curve.compute[0] * (1 - 1e-9)
        else float(np.interp(math.log(share), np.log(curve.compute), curve.values))
        for curve in drawn_curves(of)
    }


def _rows(*columns: str) -> Float2D:
    """Values written as the paper tabulates them: a line for each fraction, a column a method."""
    return frozen(np.array([line.split() for line in columns], np.float64).T, np.float64)


def _drawn(*pairs: tuple[float, float]) -> Drawn:
    return MappingProxyType(dict(zip(METHODS, pairs, strict=True)))


PANELS: Final = (
    Panel(
        task="MMLU",
        size="7B",
        values=_rows(
            "45.18 45.41 45.67 44.96 46.13",
            "45.64 45.84 45.93 46.26 46.45",
            "45.82 46.39 46.20 46.55 46.56",
            "46.26 46.72 47.12 46.79 46.93",
            "46.54 46.91 47.16 46.88 47.17",
        ),
        full=47.32,
        drawn_end=47.42,
        drawn=_drawn((2.367, 45.195), (4.181, 45.382), (6.044, 45.370), (8.785, 0), (2.089, 0)),
        twice=47.42,
        drawn_values=MappingProxyType({("random", 0.05): 45.47, ("bm25", 0.05): 45.74}),
        slope=1.118,
        front=(("embed", 0.025), ("embed", 0.05), ("bm25", 0.1), ("embed", 0.25), ("embed", 0.5)),
    ),
    Panel(
        task="MMLU",
        size="13B",
        values=_rows(
            "52.96 52.98 51.76 52.40 54.18",
            "53.40 54.19 54.14 54.09 54.37",
            "53.60 54.29 54.18 54.58 54.65",
            "53.92 54.89 54.25 55.10 55.04",
            "54.81 55.19 55.00 55.25 55.35",
        ),
        full=55.50,
        drawn_end=55.50,
        drawn=_drawn((2.568, 52.926), (7.115, 52.946), (6.602, 52.197), (14.853, 0), (3.892, 0)),
        drawn_flops=MappingProxyType({("less", 0.025): 8.384e18}),
        slope=1.416,
        front=tuple(("bm25", fraction) for fraction in FRACTIONS),
    ),
    Panel(
        task="MMLU",
        size="70B",
        values=_rows(
            "68.60 68.45 68.85 69.38 68.67",
            "69.01 69.15 69.48 69.66 69.33",
            "69.15 69.24 69.49 69.825 69.90",
            "69.30 69.38 69.51 69.83 69.97",
            "69.35 69.50 69.64 69.85 70.00",
        ),
        full=70.05,
        drawn_end=70.05,
        drawn=_drawn(
            (2.016, 68.755), (2.649, 68.729), (2.413, 69.122), (4.236, 69.394), (20.66, 0)
        ),
        slope=0.654,
    ),
    Panel(
        task="BBH",
        size="7B",
        values=_rows(
            "39.65 39.94 40.83 40.30 41.14",
            "40.26 40.86 41.30 41.42 41.44",
            "40.63 41.07 41.51 41.81 41.45",
            "41.00 41.51 41.79 41.94 41.72",
            "41.48 41.81 41.95 41.99 42.07",
        ),
        full=42.19,
        drawn_end=42.19,
        drawn=_drawn((3.008, 39.759), (5.247, 40.027), (5.413, 40.833), (9.458, 0), (2.136, 0)),
        slope=0.789,
        front=tuple(("embed", fraction) for fraction in FRACTIONS),
    ),
    Panel(
        task="BBH",
        size="13B",
        values=_rows(
            "43.98 49.94 43.39 48.01 44.87",
            "48.39 50.45 50.79 49.26 49.46",
            "49.63 50.58 51.36 49.91 51.05",
            "51.53 51.05 52.00 50.24 52.13",
            "51.61 51.85 52.50 51.90 52.41",
        ),
        full=52.78,
        drawn_end=52.78,
        drawn=_drawn((15.243, 40.80), (2.408, 49.918), (57.77, 13.14), (2.922, 45.214), (2.582, 0)),
        drawn_full=MappingProxyType({"perplexity": 52.27}),
        slope=1.784,
    ),
    Panel(
        task="BBH",
        size="70B",
        values=_rows(
            "69.00 69.63 69.91 69.12 69.62",
            "69.815 69.83 70.03 70.555 70.63",
            "69.98 69.91 70.30 70.65 70.66",
            "70.26 70.12 70.37 70.945 70.98",
            "70.50 70.74 70.57 71.14 71.235",
        ),
        full=71.25,
        drawn_end=71.25,
        drawn=_drawn(
            (2.703, 69.279), (2.317, 69.550), (1.920, 69.909), (30.41, 59.985), (18.63, 17.05)
        ),
        slope=0.894,
        front=(
            ("embed", 0.025),
            ("embed", 0.05),
            *(("perplexity", f) for f in FRACTIONS[1:]),
            ("less", 0.5),
        ),
    ),
    Panel(
        task="IFEval",
        size="7B",
        values=_rows(
            "21.52 21.20 22.29 21.44 25.21",
            "23.29 21.86 23.62 23.22 29.02",
            "24.58 22.41 23.66 24.95 30.19",
            "27.27 24.89 25.08 27.23 31.43",
            "27.85 28.10 27.54 29.02 31.92",
        ),
        full=32.53,
        drawn_end=32.93,
        drawn=_drawn((2.228, 21.772), (2.081, 20.305), (1.753, 21.931), (2.620, 5.644), (1.152, 0)),
        slope=5.827,
    ),
)
