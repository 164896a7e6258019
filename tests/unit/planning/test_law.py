"""The performance law: the same optima as scipy's or lower ones, bounds, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from didact.core.errors import ConfigError, DataError
from didact.planning.law import (
    AS_PUBLISHED,
    OPEN,
    Bounds,
    Curve,
    LawFit,
    fit_own,
    fit_shared,
    forward_error,
    leave_one_out,
)
from didact.planning.panels import METHODS, PANELS, curves

C = np.array([0.025, 0.05, 0.1, 0.25, 0.5])


def law(base, end, rate, c=C):
    return end - (end - base) * np.exp(-rate * c)


def squares(curve, end, base, rate):
    return float(((law(base, end, rate, curve.compute) - curve.values) ** 2).sum())


@pytest.mark.parametrize("of", PANELS, ids=lambda of: of.name)
@pytest.mark.parametrize("bounds", [OPEN, AS_PUBLISHED], ids=["open", "published"])
def test_own_fits_are_scipys_lowest(of, bounds):
    optimize = pytest.importorskip("scipy.optimize")
    fit = fit_own(curves(of), end=of.full, bounds=bounds)
    low = -np.inf if bounds.base is None else bounds.base
    for curve in curves(of):
        found = [
            optimize.curve_fit(
                lambda c, base, rate: law(base, of.full, rate, c),
                curve.compute,
                curve.values,
                p0=(curve.values[0], start),
                bounds=([low, 0], [of.full, 1e4]),
                xtol=1e-14,
                ftol=1e-14,
                gtol=1e-14,
            )[0]
            for start in (3.0, 30.0)
        ]
        best = min(found, key=lambda at: squares(curve, of.full, *at))
        mine = fit.base[curve.method], fit.rates[curve.method]
        # scipy's trust region stops within 1e-6 of the optimum of a flat valley
        assert mine == pytest.approx(tuple(best), rel=2e-5)
        assert squares(curve, of.full, *mine) <= squares(curve, of.full, *best) * (1 + 1e-9)


@pytest.mark.parametrize("of", PANELS, ids=lambda of: of.name)
def test_shared_fits_are_scipys(of):
    optimize = pytest.importorskip("scipy.optimize")

    def missed(at):
        return (law(at[0], of.full, at[1:, None]) - of.values).ravel()

    def slopes(at):
        decay = np.exp(-at[1:, None] * C)
        by_rate = (of.full - at[0]) * C * decay
        apart = np.kron(np.eye(5), np.ones((5, 1)))  # a point depends on its own method's rate
        return np.column_stack([decay.ravel(), apart * by_rate.ravel()[:, None]])

    start = [of.values.min(), *[5.0] * len(METHODS)]
    found = optimize.least_squares(
        missed, start, slopes, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    fit = fit_shared(curves(of), end=of.full)
    mine = np.array([fit.base["random"], *(fit.rates[name] for name in METHODS)])
    assert mine == pytest.approx(found.x, rel=1e-6)
    assert (missed(mine) ** 2).sum() <= 2 * found.cost * (1 + 1e-10)


@pytest.mark.parametrize("of", PANELS, ids=lambda of: of.name)
def test_with_the_base_measured_each_rate_is_scipys(of):
    optimize = pytest.importorskip("scipy.optimize")
    base = float(of.values.min()) - 0.3
    fit = fit_shared(curves(of), end=of.full, base=base)
    for curve in curves(of):
        found = optimize.minimize_scalar(
            lambda at, curve=curve: squares(curve, of.full, base, np.exp(at)),
            bounds=(-2, 6),
            options={"xatol": 1e-12},
            method="bounded",
        )
        assert fit.rates[curve.method] == pytest.approx(np.exp(found.x), rel=1e-6)
        assert fit.base[curve.method] == pytest.approx(base)
    assert fit.base_given


def test_exact_curves_come_back_and_no_point_is_missed():
    rates = {"random": 2.0, "bm25": 5.0, "less": 60.0}
    given = [Curve(name, C, law(30.0, 50.0, rate)) for name, rate in rates.items()]
    for fit in (fit_own(given, end=50.0), fit_shared(given, end=50.0)):
        assert dict(fit.rates) == pytest.approx(rates, rel=1e-8)
        assert [*fit.base.values()] == pytest.approx([30.0] * 3)
        assert max(fit.rmse, fit.loo, fit.forward) < 1e-8
        assert fit.bounds_hit == ()
        assert fit.predict("bm25", C) == pytest.approx(law(30.0, 50.0, 5.0))
        assert fit.predict("bm25", 0.0).tolist() == pytest.approx([30.0])


def test_curves_need_not_have_the_same_points_nor_ascend():
    few = Curve("less", [0.4, 0.1], law(1.0, 2.0, 20.0, np.array([0.4, 0.1])))
    many = Curve("random", C[::-1], law(1.0, 2.0, 3.0)[::-1])
    fit = fit_shared([few, many], end=2.0)
    assert dict(fit.rates) == pytest.approx({"less": 20.0, "random": 3.0}, rel=1e-7)
    assert fit.points == 7


def test_the_lower_of_two_valleys_is_taken():
    # MMLU 13B, embed without its point at 10 %: a local optimizer that starts at 5 ends in the other
    kept = np.array([0, 1, 3, 4])
    curve = Curve("embed", C[kept], np.array([51.76, 54.14, 54.25, 55.0]))
    fit = fit_own([curve], end=55.5)
    assert fit.rates["embed"] == pytest.approx(40.35, abs=0.01)
    assert squares(curve, 55.5, 45.248, 40.348) < squares(curve, 55.5, 52.38, 4.37)


def test_a_narrow_valley_is_found_with_one_base_for_all():
    # the first point alone, at λ 40, fits nearly as well; over A that valley is much wider
    c = np.array([0.0139, 0.338, 0.359, 0.524, 0.671, 0.945])
    fit = fit_shared([Curve("m", c, law(10.0, 20.0, 11.0, c))], end=20.0)
    assert (fit.base["m"], fit.rates["m"]) == pytest.approx((10.0, 11.0), rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_a_freer_fit_misses_no_more(seed):
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(1.5, 1.0, 3))
    values = law(30.0, 50.0, rates[:, None]) + rng.normal(0, 2.0, (3, 5))
    given = [Curve(str(i), C, row) for i, row in enumerate(values)]
    own, shared, known = (
        fit_own(given, end=50.0),
        fit_shared(given, end=50.0),
        fit_shared(given, end=50.0, base=30.0),
    )
    assert own.rmse <= shared.rmse * (1 + 1e-9)
    assert shared.rmse <= known.rmse * (1 + 1e-9)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([50.0] * 5, "m: P0 at the end, 50; m: λ at 0"),
        ([51.0, 52.0, 51.0, 53.0, 51.0], "m: P0 at the end, 50; m: λ at 0"),
        ([40.0] * 5, "m: λ at 0"),
        ([45.0, 44.0, 43.0, 42.0, 41.0], "m: λ at 0"),
        ([49.0, 50.0, 50.0, 50.0, 50.0], "m: P0 below all bounds: no point lies near c = 0"),
    ],
    ids=["all at the end", "above the end", "flat", "falling", "there at once"],
)
def test_what_data_leave_open_is_told(values, told):
    fit = fit_own([Curve("m", C, np.array(values))], end=50.0)
    assert "; ".join(fit.bounds_hit) == told
    assert np.isfinite(
        [fit.rmse, fit.loo, fit.base["m"], fit.rates["m"], *fit.predict("m", C)]
    ).all()


@pytest.mark.parametrize("flat", [50.0, 40.0])
def test_shared_fits_of_flat_curves_are_finite(flat):
    given = [Curve("a", C, np.full(5, flat)), Curve("b", C, law(40.0, 50.0, 4.0))]
    fit = fit_shared(given, end=50.0)
    assert np.isfinite([fit.rmse, fit.loo, *fit.base.values(), *fit.rates.values()]).all()
    assert fit.rates["b"] == pytest.approx(4.0, rel=0.01)
    assert fit.bounds_hit == (f"a: λ at {'0' if flat == 40.0 else '10000'}",)


def test_bounds_hold_and_are_told():
    steep = Curve("less", C + 2.0, law(30.0, 50.0, 3.0))  # so P0 would be far below 0
    fit = fit_own([steep], end=50.0, bounds=AS_PUBLISHED)
    assert (fit.base["less"], fit.bounds_hit) == (0.0, ("less: P0 at 0",))
    capped = fit_own(
        [Curve("m", C, law(30.0, 50.0, 9.0))], end=50.0, bounds=Bounds(rates=(0.0, 8.0))
    )
    assert (capped.rates["m"], capped.bounds_hit) == (8.0, ("m: λ at 8",))


@pytest.mark.parametrize("form", ["own", "shared"])
def test_a_point_left_out_is_foretold_by_a_fit_without_it(form):
    of, fit = PANELS[0], fit_own if form == "own" else fit_shared
    given = curves(of)[:3]
    missed = []
    for i, curve in enumerate(given):
        for j in range(5):
            kept = np.arange(5) != j
            rest = list(given)
            rest[i] = Curve(curve.method, curve.compute[kept], curve.values[kept])
            told = fit(rest, end=of.full).predict(curve.method, curve.compute[j])
            missed.append(told[0] - curve.values[j])
    assert leave_one_out(form, given, end=of.full) == pytest.approx(
        float(np.sqrt(np.mean(np.square(missed)))), rel=1e-6
    )


def test_errors_that_cannot_be_had_are_none():
    late = [Curve("m", C[2:] + 0.1, law(1.0, 2.0, 3.0)[2:]), Curve("n", C, law(1.0, 2.0, 3.0))]
    assert forward_error("shared", late, end=2.0) is None
    assert fit_shared(late, end=2.0).share(None) is None
    single = [Curve("m", [0.1], [1.5]), Curve("n", C, law(1.0, 2.0, 3.0))]
    assert leave_one_out("shared", single, end=2.0) is None


def test_the_full_pass_is_no_point_to_foretell():
    c = np.append(C, 1.0)
    given = [Curve("m", c, np.append(law(1.0, 2.0, 3.0) + 0.01 * np.sin(70 * C), 2.0))]
    without = [Curve("m", C, given[0].values[:5])]
    told = forward_error("own", given, end=2.0)
    assert told == pytest.approx(forward_error("own", without, end=2.0))
    assert told > 0.001


def test_json_gives_the_same_fit_back():
    fit = fit_own(curves(PANELS[4]), end=52.78, bounds=AS_PUBLISHED)
    assert LawFit.from_json(json.loads(json.dumps(fit.to_json()))) == fit


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda: Curve("m", C, C[:3]), r"m: values has shape \(3,\), and there are 5 points"),
        (lambda: Curve("m", C, np.full(5, np.nan)), "m: values has a number that is not finite"),
        (lambda: Curve("m", C - 0.1, C), "m: compute of -0.075 is below 0: selection costs"),
        (lambda: fit_own([Curve("m", C[:3], C[:3])], end=1.0), "m: 3 points, .* 4 at least"),
        (lambda: fit_shared([Curve("m", C[:3], C[:3])], end=1.0), "3 points of 1 methods"),
        (lambda: fit_shared([], end=1.0), "0 points of 0 methods"),
        (lambda: fit_own([Curve("m", C, C)] * 2, end=1.0), "'m' has two curves"),
        (lambda: fit_own([Curve("m", C, C)], end=np.nan), "the value at the end is nan"),
        (lambda: fit_shared([Curve("m", C, C)], end=1.0, base=1.0), "1 is not below the full"),
    ],
)
def test_data_that_no_law_can_be_fitted_to(given, told):
    with pytest.raises(DataError, match=told):
        given()


def test_a_method_without_a_curve_is_named():
    fit = fit_own([Curve("random", C, law(1.0, 2.0, 3.0))], end=2.0)
    with pytest.raises(ConfigError, match="not fitted for 'randm'; did you mean 'random'"):
        fit.predict("randm", 0.1)
