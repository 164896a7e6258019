"""Compute-constrained data selection (arXiv:2410.16208), number for number.

Birth certificate: the accuracies, FLOPs, drawn curves and slopes were read off the vector graphics
that oseyosey/CCDS publishes; the vectors of the law, the simulation, break-even and budgets were
computed from the formulas with numpy and scipy. None of it was produced by didact.
"""

from __future__ import annotations

import numpy as np
import pytest

from didact.planning import simulation
from didact.planning.break_even import Side, crossing, per_task, ratio
from didact.planning.frontier import Line, log_line, non_dominated
from didact.planning.law import (
    AS_PUBLISHED,
    Curve,
    LawFit,
    fit_own,
    fit_shared,
    forward_error,
    leave_one_out,
)
from didact.planning.panels import (
    FRACTIONS,
    METHODS,
    PANELS,
    SELECTION_FLOPS,
    at_budget,
    curves,
    drawn_curves,
    panel,
    points,
)
from didact.planning.published import foretold

NAMES = [of.name for of in PANELS]
BY_NAME = pytest.mark.parametrize("of", PANELS, ids=NAMES)


# The law


@pytest.mark.parametrize(
    ("base", "end", "rate", "told"),
    [
        (45, 47.5, 4, "45 45.237906 45.453173 45.824200 46.580301 47.161662 47.454211"),
        (0, 100, 5, "0 11.750310 22.119922 39.346934 71.349520 91.791500 99.326205"),
        (0, 100, 10, "0 22.119922 39.346934 63.212056 91.791500 99.326205 99.995460"),
        (0, 100, 40, "0 63.212056 86.466472 98.168436 99.995460 100 100"),
        (0, 100, 80, "0 86.466472 98.168436 99.966454 100 100 100"),
    ],
)
def test_points_of_the_curve(base, end, rate, told):
    fit = LawFit(
        form="own", end=end, base={"m": base}, rates={"m": rate}, base_given=False, bounds_hit=(),
        points=7, gap=end - base, rmse=0.0, loo=None, forward=None,
    )  # fmt: skip
    c = np.array([0, *FRACTIONS, 1.0])
    # six decimals are printed, of 99.9999998 as 100
    assert fit.predict("m", c) == pytest.approx([float(x) for x in told.split()], abs=6e-7)


@BY_NAME
def test_the_published_fits_come_out_on_total_compute(of):
    fit = fit_own(drawn_curves(of), end=of.drawn_end, bounds=AS_PUBLISHED)
    for method in METHODS:
        rate, base = of.drawn[method]
        # read off to three or four digits from points that are exact to 0.005: λ is to 0.2 %
        assert fit.rates[method] == pytest.approx(rate, rel=2e-3), method
        assert fit.base[method] == pytest.approx(base, abs=0.035), method
        assert (f"{method}: P0 at 0" in fit.bounds_hit) == (base == 0), method


def test_most_expensive_curves_end_at_the_bound():
    at_bound = [method for of in PANELS for method in METHODS if of.drawn[method][1] == 0]
    assert at_bound.count("less") == 6
    assert at_bound.count("perplexity") == 3
    assert len(at_bound) == 9


@pytest.mark.parametrize(
    ("name", "method", "total", "net", "base", "rate"),
    [
        ("IFEval 7B", "less", 1.81, 0.84, 22.8, 14.1),
        ("MMLU 7B", "less", 0.125, 0.067, 46.128, 3.730),
        ("BBH 7B", "perplexity", 0.285, 0.157, 38.4, 29.0),
    ],
)
def test_on_training_compute_the_error_falls_and_the_base_is_one(
    name, method, total, net, base, rate
):
    of = panel(name)
    at = METHODS.index(method)
    with_selection, without = (
        fit_own([drawn_curves(of, total=both)[at]], end=of.drawn_end, bounds=AS_PUBLISHED)
        for both in (True, False)
    )
    assert with_selection.rmse == pytest.approx(total, rel=5e-3)
    assert without.rmse == pytest.approx(net, rel=5e-3)
    assert without.base[method] == pytest.approx(base, abs=0.05)
    assert without.rates[method] == pytest.approx(rate, rel=3e-3)
    assert (with_selection.base[method], without.bounds_hit) == (0, ())


@pytest.mark.parametrize(
    ("name", "method", "base", "rate", "rmse"),
    [
        ("MMLU 7B", "embed", 45.370, 6.044, 0.099),
        ("MMLU 13B", "bm25", 52.947, 7.113, 0.279),
        ("BBH 7B", "random", 39.759, 3.008, 0.187),
    ],
)
def test_single_fits(name, method, base, rate, rmse):
    of = panel(name)
    fit = fit_own([drawn_curves(of)[METHODS.index(method)]], end=of.drawn_end, bounds=AS_PUBLISHED)
    found = (fit.base[method], fit.rates[method], fit.rmse)
    assert found == (
        pytest.approx(base, abs=5.1e-4),
        pytest.approx(rate, abs=5.1e-4),
        pytest.approx(rmse, abs=5.1e-4),
    )


# Two forms on training compute

OWN = [0.173, 0.209, 0.186, 0.156, 0.227, 0.209, 0.111]
SHARED = [0.133, 0.155, 0.178, 0.136, 0.216, 0.155, 0.088]


@pytest.fixture(scope="module")
def forms():
    return [
        (fit_own(curves(of), end=of.full), fit_shared(curves(of), end=of.full)) for of in PANELS
    ]


def test_one_base_for_all_foretells_a_point_better(forms):
    own, shared = ([fit.share(fit.loo) for fit in fits] for fits in zip(*forms, strict=True))
    assert shared == pytest.approx(SHARED, abs=6e-4)
    assert np.mean(shared) == pytest.approx(0.151, abs=5e-4)
    # In MMLU 13B two points' refits have two valleys. The reference's local optimizer stayed in
    # the higher ones: 0.209; the lowest ones foretell worse: 0.2185 (tested below).
    exact = [i for i, name in enumerate(NAMES) if name != "MMLU 13B"]
    assert [own[i] for i in exact] == pytest.approx([OWN[i] for i in exact], abs=6e-4)
    assert own[NAMES.index("MMLU 13B")] == pytest.approx(0.2185, abs=5e-4)
    assert np.mean(own) == pytest.approx(0.182, abs=1.1e-3)
    assert all(a < b for a, b in zip(shared, own, strict=True))


def test_the_reference_of_mmlu_13b_is_a_local_optimizers():
    optimize = pytest.importorskip("scipy.optimize")
    of = panel("MMLU 13B")

    def law(c, base, rate):
        return of.full - (of.full - base) * np.exp(-rate * c)

    missed, higher = [], []
    for curve in curves(of):
        for j in range(5):
            kept = np.arange(5) != j
            c, y = curve.compute[kept], curve.values[kept]
            start = (y[0], 10.0)
            at = optimize.curve_fit(law, c, y, p0=start, maxfev=10_000)[0]
            missed.append(law(curve.compute[j], *at) - curve.values[j])
            ours = fit_own([Curve(curve.method, c, y)], end=of.full)
            squares = len(c) * ours.rmse**2
            if ((law(c, *at) - y) ** 2).sum() > squares * (1 + 1e-6):
                higher.append((curve.method, FRACTIONS[j]))
            assert ((law(c, *at) - y) ** 2).sum() > squares * (1 - 1e-9)
    share = np.sqrt(np.mean(np.square(missed))) / (of.full - of.values.min())
    assert share == pytest.approx(0.209, abs=5e-4)
    assert higher == [("bm25", 0.1), ("embed", 0.1)]


def test_the_published_form_forecasts_better(forms):
    own = [
        forward_error("own", curves(of), end=of.full, bounds=AS_PUBLISHED) / fit.gap
        for of, (fit, _) in zip(PANELS, forms, strict=True)
    ]
    shared = [fit.share(fit.forward) for _, fit in forms]
    assert np.mean(own) == pytest.approx(0.157, abs=5e-4)
    assert np.mean(shared) == pytest.approx(0.173, abs=5e-4)
    assert sum(s < o for s, o in zip(shared, own, strict=True)) == 2


def test_without_a_methods_effect_it_is_worse_than_either(forms):
    errors = []
    for of, (fit, _) in zip(PANELS, forms, strict=True):
        all_of_them = Curve("any", np.tile(FRACTIONS, 5), of.values.ravel())
        errors.append(leave_one_out("shared", [all_of_them], end=of.full) / fit.gap)
    assert np.mean(errors) == pytest.approx(0.197, abs=5e-4)


def test_each_panel_from_the_other_six():
    told = [foretold(i) for i in range(len(PANELS))]
    accuracies = [panel_.decision_accuracy for panel_ in told]
    assert accuracies == pytest.approx([0.8, 0.8, 0.8, 0.9, 0.5, 0.9, 0.7])
    assert np.mean(accuracies) >= 0.75
    assert np.mean([one.rank_correlation for one in told]) == pytest.approx(0.70, abs=5e-3)
    assert np.mean([one.regret for one in told]) == pytest.approx(0.13, abs=5e-3)
    assert np.mean([one.regret_random for one in told]) == pytest.approx(1.49, abs=5e-3)
    assert {one.ranking[0] for one in told} == {"less"}


# Frontier and budgets


@BY_NAME
def test_the_non_dominated_points(of):
    found = points(of)
    flops, values = (np.array([getattr(p, name) for p in found]) for name in ("flops", "value"))
    told = {
        "MMLU 7B": "embed.025 embed.05 bm25.1 embed.25 embed.5",
        "MMLU 13B": "bm25.025 bm25.05 bm25.1 bm25.25 perplexity.25 bm25.5 perplexity.5",
        "MMLU 70B": "embed.025 embed.05 perplexity.05 perplexity.1 less.1 less.25 less.5",
        "BBH 7B": "embed.025 embed.05 embed.1 embed.25 perplexity.1 embed.5 perplexity.5",
        "BBH 13B": "bm25.025 embed.05 embed.1 embed.25 embed.5",
        "BBH 70B": "embed.025 embed.05 perplexity.05 perplexity.1 less.1 perplexity.25 less.25 "
        "perplexity.5 less.5",
        "IFEval 7B": "embed.025 embed.05 random.1 random.25 bm25.5 perplexity.5",
    }
    named = [
        f"{p.method}{p.fraction:g}".replace("0.", ".")
        for p in (found[i] for i in non_dominated(flops, values))
    ]
    assert named == [*told[of.name].split(), "random1"]


@pytest.mark.parametrize(
    ("name", "slope"),
    [("MMLU 7B", 1.11784), ("MMLU 13B", 1.41635), ("BBH 7B", 0.78933), ("BBH 70B", 0.89424)],
)
def test_drawn_slopes(name, slope):
    of = panel(name)
    chosen = [p for p in points(of) if (p.method, p.fraction) in of.front or p.fraction == 1]
    line = log_line(np.array([p.flops for p in chosen]), np.array([p.value for p in chosen]))
    assert line.per_decade == pytest.approx(slope, abs=1e-4)  # costs are read off to four digits


# Gain over random of the best method at equal total compute, by budget and panel
WINNERS = {
    0.025: "embed .49, bm25 .02, embed .25, embed 1.18, bm25 5.96, embed .91, embed .77",
    0.05: "embed .46, bm25 .79, embed .47, embed 1.04, embed 2.40, embed .22, embed .33",
    0.1: "bm25 .57, bm25 .69, perplexity .58, embed .88, embed 1.73, perplexity .62, random 0",
    0.25: "embed .86, bm25 .97, perplexity .53, embed .79, embed .47, perplexity .64, random 0",
    0.5: "embed .62, bm25 .38, less .63, embed .47, embed .89, perplexity .62, bm25 .25",
    1.0: ", ".join(["random 0"] * 7),
}


@pytest.mark.parametrize("share", WINNERS)
def test_winners_at_equal_total_compute(share):
    for of, told in zip(PANELS, WINNERS[share].split(", "), strict=True):
        values = at_budget(of, share)
        best = max(METHODS, key=lambda m: (not np.isnan(values[m]), values[m]))
        method, gain = told.split()
        assert best == method, of.name
        assert values[best] - values["random"] == pytest.approx(float(gain), abs=5.01e-3), of.name


def test_budgets_that_tasks_share():
    shares = {1: (8.499e18, 0.973), 5: (1.884e18, 0.878), 10: (1.057e18, 0.783),
              20: (6.432e17, 0.643), 36: (4.594e17, 0.500)}  # fmt: skip
    for n, told in shares.items():
        assert per_task(8.269e18, 2.297e17, n) == pytest.approx(told, rel=6e-4)


def test_less_reaches_the_drawn_front_with_ten_to_twenty_tasks():
    line = Line(28.673 + 18 * 1.001, 1.001)
    of = panel("MMLU 7B")
    values = of.values[METHODS.index("less")]

    def above(n):
        spent = [per_task(SELECTION_FLOPS["less"], f * of.full_flops, n)[0] for f in FRACTIONS]
        return values - line.at(np.array(spent))

    assert above(1)[0] == pytest.approx(-1.5, abs=0.05)
    assert above(5).max() == pytest.approx(-0.12, abs=0.02)
    assert above(10)[-1] == pytest.approx(-0.01, abs=0.01)
    assert above(20)[3:].tolist() == pytest.approx([0.05, 0.04], abs=0.01)


# The simulation


def side(method, *, passes=True):
    costs = simulation.SELECTION_PASSES if passes else simulation.SELECTION_FLOPS
    return Side(simulation.RATES[method], costs[method])


@pytest.mark.parametrize(
    ("per_token", "share", "told"),
    [
        (4.5e10, 0.25, "71.3495 91.7915 nan nan"),
        (4.5e10, 0.5, "91.7915 99.3262 99.8727 nan"),
        (4.5e11, 0.05, "22.1199 39.3469 48.6583 nan"),
        (4.5e11, 0.1, "39.3469 63.2121 93.0517 nan"),
        (4.5e11, 0.25, "71.3495 91.7915 99.9828 99.9994"),
        (9e12, 0.05, "22.1199 39.3469 85.5335 97.2676"),
    ],
)
def test_the_simulation(per_token, share, told):
    full = per_token * 1e8
    assert full in simulation.FULL_FLOPS.values()
    found = [simulation.simulated(m, share * full, full) for m in simulation.RATES]
    assert found == pytest.approx([float(x) for x in told.split()], abs=5.1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("a", "b", "flops"),
    [
        ("perplexity", "lexicon", 2e18),
        ("gradient", "lexicon", 5.142857e18),
        ("gradient", "perplexity", 7.5e18),
    ],
)
def test_crossings_of_the_simulation(a, b, flops):
    found = float(crossing(side(a, passes=False), side(b, passes=False)))
    assert found == pytest.approx(flops, rel=1e-7)
    values = [simulation.simulated(m, found, 4.5e19) for m in (a, b)]
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (0.025, (17.7778, 45.7143, 66.6667, 82.2857)),
        (0.05, (8.8889, 22.8571, 33.3333, 41.1429)),
        (0.1, (4.4444, 11.4286, 16.6667, 20.5714)),
        (0.25, (1.7778, 4.5714, 6.6667, 8.2286)),
        (1.0, (0.4444, 1.1429, 1.6667, 2.0571)),
    ],
)
def test_ratios_of_the_simulation(budget, told):
    pairs = [
        (side("perplexity"), side("lexicon")),
        (side("gradient"), side("lexicon")),
        (side("gradient"), side("perplexity")),
        (Side(80.0, 1.8), side("lexicon")),
    ]
    assert [float(ratio(a, b, budget)) for a, b in pairs] == pytest.approx(told, abs=5.1e-5)


def test_five_and_ten_times_are_the_simulations_near_a_tenth_of_a_pass():
    # 4/9 ÷ 5 and 8/7 ÷ 10
    assert ratio(side("perplexity"), side("lexicon"), 4 / 45) == pytest.approx(5.0)
    assert ratio(side("gradient"), side("lexicon"), 8 / 70) == pytest.approx(10.0)
