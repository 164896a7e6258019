"""The performance law on the published panels: ours beside the paper's, and what carries over.

    python benchmarks/performance_law.py [-o FILE]

Fits to total compute as published, beside the drawn parameters; both forms on training compute with
what they miss of points left out and of later points; slopes of the drawn frontiers; the best
method at equal total compute; break-even sizes and numbers of tasks under the simulation's rates
and under refitted ones. Then each panel is taken away and told from the other six: the ranking, how
often intervals hold what was measured, and what is lost by taking the method that they advise.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from didact.core.cost import Cost
from didact.evaluation.student import t_quantile
from didact.planning import simulation
from didact.planning.break_even import Side, ratio
from didact.planning.choice import recommend
from didact.planning.costs import Scoring
from didact.planning.frontier import log_line, non_dominated
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
    Panel,
    at_budget,
    curves,
    drawn_curves,
    points,
)
from didact.planning.prior import PUBLISHED, prior_from_trials
from didact.planning.published import (
    foretold,
    published_draws,
    published_fits,
    regret,
    trials_of,
)
from didact.planning.resampling import Draws, bootstrap
from didact.planning.rows import Terms, all_rows
from didact.planning.transfer import alike, log_gains

RESULTS = Path(__file__).resolve().parent / "results" / "performance_law.json"
BUDGETS = np.array(FRACTIONS)
JUDGE = 7_000_000_000  # parameters of the panels' scoring model
OURS = {"embed": "embedding"}  # the paper's name → didact's
LOWER = 0.1  # the lower end of an 80 % interval


def rounded(value: float, digits: int = 5) -> float | None:
    """For JSON, which has neither NaN nor infinity: null."""
    return round(float(value), digits) if math.isfinite(value) else None


def drawn_fits() -> dict[str, dict]:
    """Fits to total compute as published, and to training compute alone."""
    out = {}
    for of in PANELS:
        both = {
            total: fit_own(drawn_curves(of, total=total), end=of.drawn_end, bounds=AS_PUBLISHED)
            for total in (True, False)
        }
        out[of.name] = {
            method: {
                "drawn": list(of.drawn[method]),
                "total": [rounded(both[True].rates[method]), rounded(both[True].base[method])],
                "net": [rounded(both[False].rates[method]), rounded(both[False].base[method])],
                "at a bound": f"{method}: P0 at 0" in both[True].bounds_hit,
            }
            for method in METHODS
        }
        out[of.name]["rmse"] = {
            "total": rounded(both[True].rmse),
            "net": rounded(both[False].rmse),
        }
    return out


def forms() -> dict[str, dict]:
    """Both forms on training compute; errors as shares of the gap."""
    out = {}
    for of, shared in zip(PANELS, published_fits(), strict=True):
        own = fit_own(curves(of), end=of.full)
        forward = forward_error("own", curves(of), end=of.full, bounds=AS_PUBLISHED)
        none = leave_one_out(
            "shared", [Curve("any", np.tile(BUDGETS, 5), of.values.ravel())], end=of.full
        )
        out[of.name] = {
            "loo own": rounded(own.share(own.loo)),
            "loo shared": rounded(shared.share(shared.loo)),
            "loo without an effect": rounded(none / own.gap),
            "forward own": rounded(forward / own.gap),
            "forward shared": rounded(shared.share(shared.forward)),
            "residual SD of shared": rounded(residual_sd(shared) / shared.gap),
            "P0 shared": rounded(shared.base["random"]),
            "lambda shared": {name: rounded(rate) for name, rate in shared.rates.items()},
        }
    return out


def residual_sd(fit: LawFit) -> float:
    """What a shared fit misses, in points, by its degrees of freedom."""
    return fit.rmse * math.sqrt(fit.points / (fit.points - len(fit.rates) - 1))


def slopes() -> dict[str, dict]:
    out = {}
    for of in PANELS:
        found = points(of)
        flops, values = (np.array([getattr(p, name) for p in found]) for name in ("flops", "value"))
        front = non_dominated(flops, values)
        out[of.name] = {
            "drawn": of.slope,
            "all that nothing beats": rounded(log_line(flops[front], values[front]).per_decade, 5),
        }
        if of.front:
            picked = [
                i
                for i, p in enumerate(found)
                if (p.method, p.fraction) in of.front or p.fraction == 1
            ]
            out[of.name]["the points drawn"] = rounded(
                log_line(flops[picked], values[picked]).per_decade, 5
            )
    return out


def winners() -> dict[str, dict[str, str]]:
    out = {}
    for share in (*FRACTIONS, 1.0):
        told = {}
        for of in PANELS:
            values = at_budget(of, share)
            best = max(METHODS, key=lambda m: (not math.isnan(values[m]), values[m]))
            told[of.name] = f"{best} {values[best] - values['random']:+.2f}"
        out[f"{share:g}"] = told
    return out


SHAPES = {
    "exponential": lambda c, rate: np.exp(-rate * c),
    "exponential, its end at c = 1": lambda c, rate: (
        (np.exp(-rate * c) - np.exp(-rate)) / -np.expm1(-rate)
    ),
    "power of compute": lambda c, rate: 1 - c ** (1 / (1 + rate)),
}


def other_shapes() -> dict[str, dict]:
    """One base for all with other shapes of the way from base to end; errors as shares of the gap.

    By scipy's least squares from two starts; the shapes are 1 at c = 0 and fall to 0.
    """
    from scipy.optimize import least_squares

    def missed(shape: Callable, of: Panel, at: np.ndarray) -> np.ndarray:
        rates = np.exp(np.clip(at[1:, None], -7, 7))
        return of.full - at[0] * shape(BUDGETS, rates) - of.values

    def fit(shape: Callable, of: Panel, used: np.ndarray) -> np.ndarray:
        scale = of.full - of.values.min()
        found = [
            least_squares(
                lambda at: missed(shape, of, at)[used], [scale, *[math.log(start)] * 5], method="lm"
            )
            for start in (2.0, 8.0)
        ]
        return missed(shape, of, min(found, key=lambda f: f.cost).x)

    out = {}
    for name, shape in SHAPES.items():
        loo, forward = [], []
        for of in PANELS:
            gap = of.full - of.values.min()
            left = []
            for at in np.ndindex(of.values.shape):
                used = np.ones(of.values.shape, np.bool_)
                used[at] = False
                left.append(fit(shape, of, used)[at])
            early = np.broadcast_to(BUDGETS <= 0.1, of.values.shape)
            late = fit(shape, of, early)[~early]
            loo.append(np.sqrt(np.mean(np.square(left))) / gap)
            forward.append(np.sqrt(np.mean(late**2)) / gap)
        out[name] = {
            "loo": rounded(np.mean(loo), 3),
            "loo by panel": [rounded(x, 3) for x in loo],
            "forward": rounded(np.mean(forward), 3),
            "forward by panel": [rounded(x, 3) for x in forward],
        }
    return out


PAIRS = (
    ("perplexity over embed", "perplexity", 1 / 3, "embed"),
    ("perplexity over random", "perplexity", 1 / 3, "random"),
    ("less as drawn over embed", "less", 1.8, "embed"),
    ("less as counted over embed", "less", 4.2, "embed"),
)


def break_even(budget: float) -> dict[str, dict]:
    """Ratios of sizes with 80 % intervals of refits; at equal sizes, as many tasks are needed.

    Null is infinite: the rival is ahead even where selection is free.
    """
    rates = simulation.RATES
    out: dict[str, dict] = {
        "simulation": {
            "perplexity over lexicon": rounded(
                float(ratio(Side(rates["perplexity"], 1 / 3), Side(rates["lexicon"]), budget))
            ),
            "gradient over lexicon": rounded(
                float(ratio(Side(rates["gradient"], 1.0), Side(rates["lexicon"]), budget))
            ),
        }
    }
    refits = dict(zip((of.name for of in PANELS), published_draws(), strict=True))
    for name, drawn in {**refits, "a further panel": pooled(list(refits.values()))}.items():
        out[name] = {}
        for pair, method, passes, rival in PAIRS:
            fast, slow = (drawn.rates[:, METHODS.index(m)] for m in (method, rival))
            sizes = ratio(Side(fast, passes), Side(slow), budget)
            # each one of the draws, of which some are infinite
            ends = np.quantile(sizes, [0.1, 0.5, 0.9], method="inverted_cdf")
            out[name][pair] = {
                "ratio": [rounded(x, 2) for x in ends],
                "never": rounded(np.mean(np.isinf(sizes)), 3),
            }
    return out


# One panel from the other six

Makers = dict[str, Callable[[int], Draws]]


def others(index: int, of: tuple) -> list:
    return [x for i, x in enumerate(of) if i != index]


def pooled(draws: list[Draws]) -> Draws:
    """A panel like any of those given, with the same weight each; base 0 and end 1."""
    rates = np.concatenate([drawn.rates for drawn in draws])
    return Draws(draws[0].methods, np.ones(len(rates)), np.zeros(rates.shape), rates)


def utility(draws: Draws, method: str, budgets: np.ndarray, selection: float = 0.0) -> np.ndarray:
    """P of a method less that of random at equal total budgets, `(draws, k)`.

    Args:
        draws: With base 0 and end 1 a share of what a full pass gains.
        method: Whose.
        budgets: Total compute, share of a full pass, `(k,)`.
        selection: What the method's selection costs, likewise. Below it nothing is trained: P0.
    """
    left = np.maximum(budgets - selection, 0.0)
    return draws.predict(method, left) - draws.predict("random", budgets)


MAKERS: Makers = {
    "mixture": lambda i: pooled(others(i, published_draws())),
    "student": lambda i: alike(others(i, published_fits()), METHODS),
}


def coverage() -> dict[str, dict]:
    """How often an 80 % interval of P_m(β) − P_random(β) holds what was measured; free scoring.

    On the scale of the panel's own shared fit, base 0 and full pass 1. With noise: what shared
    fits miss of two points, from the other panels, is added.
    """
    fits = published_fits()
    sds = [residual_sd(fit) / (fit.end - fit.base["random"]) for fit in fits]
    out = {}
    for name, make in MAKERS.items():
        for noisy in (False, True):
            rng = np.random.default_rng(0)
            held, fitted, wide = [], [], []
            for i, (of, fit) in enumerate(zip(PANELS, fits, strict=True)):
                drawn = make(i)
                for k, method in enumerate(METHODS[1:], 1):
                    told = utility(drawn, method, BUDGETS)
                    law = fit.predict(method, BUDGETS) - fit.predict("random", BUDGETS)
                    scale = fit.end - fit.base["random"]
                    if noisy:
                        sd = math.sqrt(2) * np.mean(others(i, tuple(sds)))
                        told = told + sd * rng.standard_normal(told.shape)
                    low, high = np.quantile(told, [LOWER, 1 - LOWER], axis=0)
                    real = (of.values[k] - of.values[0]) / scale
                    held.append((low <= real) & (real <= high))
                    fitted.append((low <= law / scale) & (law / scale <= high))
                    wide.append(high - low)
            table = np.array(held).reshape(len(PANELS), len(METHODS) - 1, len(BUDGETS))
            out[f"{name}, {'with noise' if noisy else 'of the law alone'}"] = {
                "measured": rounded(table.mean(), 3),
                "by budget": [rounded(x, 2) for x in table.mean(axis=(0, 1))],
                "by method": dict(
                    zip(METHODS[1:], [rounded(x, 2) for x in table.mean(axis=(0, 2))], strict=True)
                ),
                "by panel": [rounded(x, 2) for x in table.mean(axis=(1, 2))],
                "the panel's own fitted law": rounded(np.mean(fitted), 3),
                "width by budget": [rounded(x, 2) for x in np.mean(wide, axis=0)],
            }
    return out


def panel_utilities(index: int, method: str, budgets: np.ndarray, spent: float) -> np.ndarray:
    """The other panels' own fitted utilities, a row each; base 0 and full pass 1."""
    rows = []
    for fit in others(index, published_fits()):
        left = np.maximum(budgets - spent, 0)
        rows.append(np.exp(-fit.rates["random"] * budgets) - np.exp(-fit.rates[method] * left))
    return np.array(rows)


def lower_bounds(index: int, budgets: np.ndarray, spent: dict[str, float]) -> dict[str, dict]:
    """By rule, method → the number that is to be highest: mean utility over the budgets."""
    rules: dict[str, dict] = {}
    for name, make in MAKERS.items():
        drawn = make(index)
        for method in METHODS[1:]:
            told = utility(drawn, method, budgets, spent[method]).mean(axis=1)
            rules.setdefault(f"lower end of 80 %, {name}", {})[method] = np.quantile(told, LOWER)
            rules.setdefault(f"median, {name}", {})[method] = np.median(told)
    for method in METHODS[1:]:
        own = panel_utilities(index, method, budgets, spent[method]).mean(axis=1)
        reach = t_quantile(0.95, len(own) - 1) * own.std(ddof=1) / math.sqrt(len(own))
        rules.setdefault("lower end of 90 % of the mean", {})[method] = own.mean() - reach
    for told in rules.values():
        told["random"] = 0.0
    return rules


def free_regrets() -> dict[str, dict]:
    """Points lost by taking one method for all fractions, scoring free, beside the best there."""
    chosen: dict[str, list[str]] = {}
    for i in range(len(PANELS)):
        for rule, told in lower_bounds(i, BUDGETS, dict.fromkeys(METHODS, 0.0)).items():
            chosen.setdefault(rule, []).append(max(told, key=told.get))
        chosen.setdefault("best point", []).append(foretold(i).ranking[0])
        chosen.setdefault("always random", []).append("random")
    return {
        rule: {
            "regret": rounded(
                np.mean([regret(of, m) for of, m in zip(PANELS, picked, strict=True)]), 3
            ),
            "chosen": picked,
        }
        for rule, picked in chosen.items()
    }


def bought(of: Panel) -> Iterator[tuple[float, dict[str, float]]]:
    """Budgets and what the methods that they pay for were worth."""
    for budget in (*FRACTIONS, 1.0):
        values = at_budget(of, budget)
        yield budget, {m: v for m, v in values.items() if not math.isnan(v)}


def paid_regrets() -> dict[str, dict]:
    """The same with selection paid at its published cost, a choice for each of six budgets."""
    lost: dict[str, list[float]] = {}
    for i, of in enumerate(PANELS):
        spent = {method: of.selection(method) for method in METHODS}
        for budget, values in bought(of):
            best = max(values.values())
            for rule, told in lower_bounds(i, np.array([budget]), spent).items():
                first = max(values, key=told.__getitem__)
                lost.setdefault(rule, []).append(best - values[first])
            for method in ("random", "bm25", "embed"):
                lost.setdefault(f"always {method}", []).append(best - values[method])
    return {
        rule: {
            "regret": rounded(np.mean(points_), 3),
            "by budget": [rounded(x, 2) for x in np.reshape(points_, (len(PANELS), -1)).mean(0)],
        }
        for rule, points_ in lost.items()
    }


def recommended(index: int, budget: float, *, paid: bool) -> str:
    """What a plan recommends for a panel at a budget, by the other six."""
    of = PANELS[index]
    prior = prior_from_trials([trials_of(p) for p in others(index, PANELS)], PUBLISHED)
    scoring = [
        Scoring(
            OURS.get(method, method), None, JUDGE if method in {"perplexity", "less"} else None,
            Cost(flops=of.selection(method) * of.full_flops * paid), {},
        )
        for method in METHODS
    ]  # fmt: skip
    terms = Terms(
        budget=budget * of.full_flops, full_pass=of.full_flops, flops_per_second=1.0, prior=prior,
        tasks=1, least=1e-6,
    )  # fmt: skip
    rows = all_rows(terms, scoring)
    first, _ = recommend(terms, rows)
    named = {ours: theirs for theirs, ours in OURS.items()}
    return named.get(rows[first].method, rows[first].method)


def recommended_regrets() -> dict[str, dict]:
    """Points lost by taking what a plan recommends at every budget, scoring free and paid."""
    free, paid = [], []
    for i, of in enumerate(PANELS):
        for k, budget in enumerate(FRACTIONS):
            values = of.values[:, k]
            free.append(values.max() - values[METHODS.index(recommended(i, budget, paid=False))])
        for budget, values in bought(of):
            paid.append(max(values.values()) - values[recommended(i, budget, paid=True)])
    return {
        name: {
            "regret": rounded(np.mean(lost), 3),
            "by panel": [rounded(x, 2) for x in np.reshape(lost, (len(PANELS), -1)).mean(axis=1)],
        }
        for name, lost in (("scoring free", free), ("scoring paid", paid))
    }


def seconds() -> dict[str, float]:
    """CPU seconds, the least of five: a fit with its errors, and a thousand refits."""
    of = PANELS[0]
    jobs = {
        "own fit": lambda: fit_own(curves(of), end=of.full),
        "shared fit": lambda: fit_shared(curves(of), end=of.full),
        "1,000 own refits": lambda: bootstrap(curves(of), end=of.full, form="own"),
        "1,000 shared refits": lambda: bootstrap(curves(of), end=of.full),
    }
    found = {}
    for name, job in jobs.items():
        times = []
        for _ in range(5):
            began = time.process_time()
            job()
            times.append(time.process_time() - began)
        found[name] = round(min(times), 4)
    return found


def show(result: dict) -> None:
    """Tables, a line for each row; the file has the rest."""
    print("λ / P0: as drawn | ours on total compute | ours on training compute")
    for name, rows in result["drawn fits"].items():
        for method in METHODS:
            row = rows[method]
            bound = " (at its bound)" if row["at a bound"] else ""
            print(f"  {name:10} {method:10} {row['drawn']} | {row['total']}{bound} | {row['net']}")
    print("errors as shares of the gap, by panel")
    for key in ("loo own", "loo shared", "loo without an effect", "forward own", "forward shared",
                "residual SD of shared"):  # fmt: skip
        row = [of[key] for of in result["forms"].values()]
        print(f"  {key:22}", *(f"{x:.3f}" for x in row), f"mean {np.mean(row):.3f}")
    for part in list(result)[2:-1]:
        print(part)
        for key, row in result[part].items():
            print(f"  {key:32}", json.dumps(row, ensure_ascii=False).replace('"', ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    from main_job import machine  # beside this script

    gains = log_gains(published_fits(), METHODS)
    result = {
        "drawn fits": drawn_fits(),
        "forms": forms(),
        "other shapes": other_shapes(),
        "log gains over random": {
            of.name: dict(zip(METHODS, [rounded(x, 3) for x in row], strict=True))
            for of, row in zip(PANELS, gains, strict=True)
        },
        "slopes": slopes(),
        "winners at equal total compute": winners(),
        "break-even at a tenth of a pass": break_even(0.1),
        "break-even at half a pass": break_even(0.5),
        "foretold": {
            told.panel: {
                "rank correlation": rounded(told.rank_correlation, 3),
                "decision accuracy": rounded(told.decision_accuracy, 3),
                "regret": rounded(told.regret, 3),
                "regret of random": rounded(told.regret_random, 3),
            }
            for told in map(foretold, range(len(PANELS)))
        },
        "coverage of 80 % intervals": coverage(),
        "regret, scoring free": free_regrets(),
        "regret, scoring paid": paid_regrets(),
        "regret of what a plan recommends": recommended_regrets(),
        "CPU seconds": seconds(),
        "machine": machine(),
    }
    show(result)
    options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
