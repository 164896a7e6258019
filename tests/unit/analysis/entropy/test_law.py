"""Planted laws are found; what is no law is not."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from didact.analysis.entropy.law import entropy_law
from didact.analysis.entropy.runs import LawRun
from didact.core.errors import DataError


def of_ratio(ratio, loss, length, similarity):
    return -2 - 0.3 * ratio


def of_loss(ratio, loss, length, similarity):
    return -2 - 0.5 * loss - 0.1 * ratio


def of_length(ratio, loss, length, similarity):
    return -2 - 0.4 * abs(math.log(length / 150)) - 0.1 * similarity


def of_nothing(ratio, loss, length, similarity):
    return -2.0


def test_a_law_of_ratio_holds_for_ratio_alone(planted):
    found = entropy_law(planted(of_ratio))
    assert (found.verdict, found.verdict_loss) == ("holds", "cannot_tell")
    best = min(found.fits, key=lambda f: f.loo_rmse)
    assert best.features[0] == "ratio"
    linear = found.fits[0]
    slope = linear.params["weights"]["ratio"] / linear.params["scales"]["ratio"]
    assert slope == pytest.approx(-0.3, abs=0.02)
    assert linear.loo_rmse < 0.02
    assert linear.high < -0.5
    assert found.snr > 5
    assert [d.agrees for d in found.deductions][1:] == ["yes", "cannot_tell"]


def test_a_law_of_ratio_with_the_wrong_sign_fails(planted):
    found = entropy_law(planted(lambda r, *_: -2 + 0.3 * r))
    assert found.verdict == "fails"
    assert found.deductions[1].agrees == "no"


def test_a_law_of_loss_at_equal_ratio_holds_for_loss(planted):
    found = entropy_law(planted(of_loss, seed=2))
    assert found.verdict_loss == "holds"
    assert found.deductions[2].agrees == "yes"
    both = next(f for f in found.fits if f.form == "linear" and len(f.features) == 2)
    assert both.loo_rmse < 0.5 * next(r.loo_rmse for r in found.rivals if r.name == "constant")


def test_length_that_explains_all_is_no_law(planted):
    found = entropy_law(planted(of_length))
    assert (found.verdict, found.verdict_loss) == ("cannot_tell", "cannot_tell")
    errors = {(r.name, r.form): r.loo_rmse for r in found.rivals}
    curved = errors["length and similarity", "curved"]  # length in the middle is best
    assert curved < min(f.loo_rmse for f in found.fits)
    assert "not below both" in found.reasons[1]


def test_length_through_which_ratio_seems_to_act_is_taken_off():
    rng = np.random.default_rng(5)
    runs = []
    for i in range(24):
        length = float(np.exp(rng.uniform(4, 6)))
        ratio = 1 + 0.4 * math.log(length) + 0.05 * rng.normal()
        runs.append(
            LawRun(
                run=str(i), ratio=ratio, first_epoch_loss=rng.uniform(2, 3), mean_length=length,
                performance=-0.4 * math.log(length) + 0.02 * rng.normal(),
                similarity=rng.uniform(), family=f"f{i % 8}",
            )
        )  # fmt: skip
    found = entropy_law(runs)
    assert found.fits[0].spearman < -0.9
    assert abs(found.fits[0].partial) < 0.5
    assert found.verdict == "cannot_tell"


def test_noise_is_seldom_called_a_law(planted):
    # benchmarks/law_coverage.py: 4 of 300 such tables for R, 4 for L; an interval of 95 % is clear of 0 in one sign
    # in 2.5 % of cases
    found = [entropy_law(planted(of_nothing, noise=0.05, seed=s, seeds=1)) for s in range(6)]
    assert sum(law.verdict == "holds" for law in found) <= 1
    assert sum(law.verdict_loss == "holds" for law in found) <= 1


def test_without_seeds_signal_to_noise_is_null_and_said(planted):
    found = entropy_law(planted(of_nothing, seeds=1, noise=0.05))
    assert found.snr is None
    assert "snr is null" in " ".join(found.notes)
    assert "that part of the rule is not met" in " ".join(found.reasons)


def test_seeds_are_averaged_and_the_set_is_the_unit(planted):
    runs = planted(of_ratio, seeds=3)
    found = entropy_law(runs)
    assert (found.runs, found.natural) == (48, 16)
    first = found.sets[0]
    assert first.performance == pytest.approx(np.mean([r.performance for r in runs[:3]]))


def test_seven_sets_or_two_families_cannot_tell(planted):
    few = entropy_law(planted(of_ratio, families=list("abcdefg")))
    assert few.verdict == few.verdict_loss == "cannot_tell"
    assert "7 natural sets of 7 families" in few.reasons[0]
    alike = entropy_law(planted(of_ratio, families=[*"aaaaa", *"bbbbb"]))
    assert alike.verdict == "cannot_tell"
    assert "10 natural sets of 2 families" in alike.reasons[0]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_very_few_sets_are_no_error(planted, n):
    found = entropy_law(planted(of_ratio, families=list("abcd")[:n]))
    assert found.verdict == "cannot_tell"
    json.dumps(found.to_json(), allow_nan=False)


def test_a_set_far_off_is_an_outlier(planted):
    runs = planted(of_ratio)
    bad = [replace(r, performance=r.performance - 1) if r.set == "set 9" else r for r in runs]
    found = entropy_law(bad)
    far = {(o.set, o.feature): o for o in found.outliers}
    assert far["set 9", "ratio"].robust_sds < -3
    assert "set 9" in " ".join(found.sentences())
    assert not [o for o in entropy_law(runs).outliers if o.set == "set 9"]


def test_backbones_get_their_own_intercept(planted):
    small = planted(of_ratio, group=("1M", "sft"))
    large = [
        replace(r, performance=r.performance + 1.5, first_epoch_loss=r.first_epoch_loss - 1)
        for r in planted(of_ratio, group=("7B", "sft"), seed=1)
    ]
    found = entropy_law([*small, *large])
    assert found.verdict == "holds"
    levels = found.fits[0].params["intercepts"]
    assert set(levels) == {"1M · sft", "7B · sft"}
    assert found.fits[0].loo_rmse < 0.02
    assert all(curve.centered for curve in found.curves)
    ratio = found.curves[0]
    points = np.array([(x, y) for _, x, y in ratio.points])
    line = np.interp(points[:, 0], ratio.x, ratio.line)
    assert np.abs(points[:, 1] - line).max() < 0.03


def test_a_backbone_of_one_family_is_in_no_error(planted):
    alone = planted(of_ratio, group=("7B", ""), families=["random"])
    found = entropy_law([*planted(of_ratio), *alone])
    assert any("Of 7B there is one family only" in note for note in found.notes)
    assert found.fits[0].loo_rmse < 0.02


def test_doses_are_in_no_fit(planted):
    runs = planted(of_ratio)
    dose = replace(runs[0], run="d", set="random+copies4", dose="copies×4", ratio=9.0,
                   performance=-4.0)  # fmt: skip
    found, plain = entropy_law([*runs, dose]), entropy_law(runs)
    assert found.fits == plain.fits
    assert (found.verdict, found.natural) == (plain.verdict, plain.natural)
    (told,) = found.doses
    base = [s for s in plain.sets if s.family == "random"]
    assert told.base == tuple(s.set for s in base)
    assert told.ratio == pytest.approx(9 - np.mean([s.ratio for s in base]))
    assert told.performance == pytest.approx(-4 - np.mean([s.performance for s in base]))
    assert told.low < told.performance < told.high


def test_length_that_is_not_known_lets_nothing_hold(planted):
    runs = [replace(r, mean_length=None) for r in planted(of_ratio)]
    found = entropy_law(runs)
    assert found.verdict == "cannot_tell"
    assert [r.name for r in found.rivals] == ["constant"]
    assert any("mean_length" in note for note in found.notes)


def test_what_else_was_measured_stands_beside(planted):
    found = {b.name: b for b in entropy_law(planted(of_ratio)).beside}
    assert set(found) == {"deflate_ratio", "loss_10"}
    assert found["deflate_ratio"].spearman == entropy_law(planted(of_ratio)).fits[0].spearman


def test_the_json_form_has_what_was_promised(planted):
    found = json.loads(json.dumps(entropy_law(planted(of_ratio)).to_json(), allow_nan=False))
    assert {"fits", "rivals", "snr", "verdict", "verdict_loss", "outliers"} <= set(found)
    for fit in found["fits"]:
        assert {
            "form", "features", "params", "loo_rmse", "spearman", "partial", "low", "high"
        } == set(fit)  # fmt: skip
    assert {(f["form"], tuple(f["features"])) for f in found["fits"]} == {
        (form, features)
        for form in ("linear", "quadratic", "monotone")
        for features in (("ratio",), ("first_epoch_loss",), ("ratio", "first_epoch_loss"))
    }
    assert found["sets"][0]["early"] == {
        "10": pytest.approx(found["sets"][0]["first_epoch_loss"] + 0.2)
    }


@pytest.mark.parametrize("what", ["tokenizer", "held_out"])
def test_runs_of_different_units_are_refused(planted, what):
    runs = [replace(r, **{what: "same"}) for r in planted(of_ratio)]
    runs[5] = replace(runs[5], **{what: "strange"})
    with pytest.raises(DataError, match=r"0-0 and 2-1: have different .*\(same and strange\)"):
        entropy_law(runs)


def test_no_run_and_runs_given_twice_are_refused(planted):
    with pytest.raises(DataError, match="there is no run"):
        entropy_law([])
    runs = planted(of_ratio)
    with pytest.raises(DataError, match="0-0: is given twice"):
        entropy_law([*runs, runs[0]])
    with pytest.raises(DataError, match="with the same seed 0"):
        entropy_law([*runs, replace(runs[0], run="again")])
    with pytest.raises(DataError, match="are of one set.*families 'random' and 'zip'"):
        entropy_law([*runs, replace(runs[0], run="x", seed="9", family="zip")])
