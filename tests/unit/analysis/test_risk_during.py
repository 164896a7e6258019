"""While training: what is judged of curves, by drawing them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from didact.analysis.risk.curve import curve_of_state, curve_of_steps, deciding, find_log, read_log
from didact.analysis.risk.during import (
    CONTINUED,
    FROM_SCRATCH,
    Run,
    between_runs,
    comparable,
    judge_jumps,
    judge_loss,
    judge_repeats,
    judge_spikes,
)
from didact.core.errors import DataError
from didact.training.telemetry import STEPS, Step, step_lines

N = 160


def steps(seed=0, n=N, shift=0.0, epoch=1):
    """A training's log: losses that fall, with long tails, and a difference between runs."""
    rng = np.random.default_rng([11, seed])
    t = np.arange(n)
    loss = 3 + 0.3 * np.exp(-t / 30) + (rng.gamma(4, 0.05, n) - 0.2) + shift
    loss *= 1 + 0.002 * rng.standard_normal()
    norm = np.exp(rng.normal(0, 0.2, n))
    return [
        Step(step=int(i) + 1, loss=float(loss[i]), epoch=epoch, learnt=100.0, grad_norm=float(norm[i]),
             samples=8, loss_by_source={"a": (float(loss[i]), 60.0), "b": (float(loss[i]), 40.0)})
        for i in t
    ]  # fmt: skip


def curve(seed=0, **more):
    return curve_of_steps(steps(seed, **more))


def flagged(judged):
    return [one for one in judged if one.flagged]


def test_clean_trainings_are_rarely_flagged():
    """By loss, spikes and jumps at every step: three of ten kinds, so 1.5 % of them."""
    alarms = 0
    for seed in range(0, 120, 2):
        this, before = curve(seed), curve(seed + 1)
        found = [*judge_loss(Run(this), [Run(before)], paired=False), *judge_spikes(this),
                 *judge_jumps(this)]  # fmt: skip
        alarms += bool(flagged(found))
    assert alarms <= 5  # of 60; with a probability of .02 each, more has one of .001


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_a_loss_that_is_off_is_flagged_either_way_and_early(shift):
    early = Run(curve(0, shift=shift)).until(0.25)
    assert early.curve.seen == 0.25
    found = flagged(judge_loss(early, [Run(curve(1))], paired=False))
    assert {one.source for one in found} >= {""}
    assert np.sign(found[0].z) == np.sign(shift)
    assert found[0].seen - found[0].expected == pytest.approx(shift, abs=0.06)


def test_from_scratch_runs_differ_more():
    falling = [replace(s, loss=s.loss + 3 * 0.97**s.step) for s in steps(1)]
    assert between_runs(curve(1)) == CONTINUED
    assert between_runs(curve_of_steps(falling)) == between_runs(None) == FROM_SCRATCH


def test_what_is_expected_of_the_samples_is_taken_off():
    """Hard samples in one run are no flag where the previous version's model finds them as hard."""
    hard = np.linspace(0, 0.4, N)
    a, b = curve(0), curve(1)
    harder = replace(a, loss=a.loss + hard, sources={})
    runs = [Run(harder, 3 + hard), Run(replace(b, sources={}), np.full(N, 3.0))]
    assert flagged(judge_loss(runs[0], runs[1:], paired=False))
    assert not flagged(judge_loss(runs[0], runs[1:], paired=True))


def test_text_learnt_by_heart_is_found_within_one_run():
    rng = np.random.default_rng(5)
    repeated, difficulty = rng.uniform(0, 0.5, N), rng.normal(0, 0.3, N)
    base = curve(0)
    smooth = 3 + 2 * np.exp(-np.arange(N) / 30) + rng.normal(0, 0.03, N) + difficulty
    remembers = Run(replace(base, loss=smooth - 0.2 * repeated), difficulty, {}, repeated)
    (one,) = judge_repeats(remembers)
    assert one.flagged
    assert one.seen == pytest.approx(0.2, abs=3 * one.sd)
    (none,) = judge_repeats(Run(replace(base, loss=smooth), difficulty, {}, repeated))
    assert not none.flagged
    assert judge_repeats(Run(base)) == []


def test_repeats_in_a_handful_of_steps_are_not_judged():
    """One step full of them would decide alone, whatever else makes its samples easy."""
    repeated = np.zeros(N)
    repeated[[50, 90, 91]] = 0.4
    base = curve(0)
    easy = replace(base, loss=base.loss - 2 * repeated)
    assert judge_repeats(Run(easy, np.full(N, 3.0), {}, repeated)) == []


def test_a_spike_is_flagged_at_its_step():
    told = steps(3)
    told[99] = replace(told[99], loss=told[99].loss + 3)
    (one,) = flagged(judge_spikes(curve_of_steps(told)))
    assert one.place == "step 100"
    assert one.expected == pytest.approx(3, abs=0.3)


def test_a_spike_stands_out_of_losses_that_do_not_vary():
    def told(values):
        lines = [replace(s, loss=v) for s, v in zip(steps(0, 60), values, strict=True)]
        return flagged(judge_spikes(curve_of_steps(lines)))

    assert [one.place for one in told([0.0] * 40 + [6.0] + [0.0] * 19)] == ["step 41"]
    assert [one.place for one in told([0.6931] * 40 + [9.0] + [0.6931] * 19)] == ["step 41"]
    assert told([0.0] * 40 + [0.001] + [0.0] * 19) == []


def test_losses_are_compared_at_equal_steps():
    def seen(lost):
        lines = [s for i, s in enumerate(steps(0, 100)) if i not in lost]
        a, b = (Run(curve_of_steps(some, epoch_steps=100)) for some in (lines, steps(1, 100)))
        return flagged(judge_loss(a, [b], paired=False))

    assert seen(range(0)) == seen(range(5, 40)) == []


def test_a_norm_that_is_no_number_hides_no_jump(tmp_path):
    told = [replace(s, grad_norm=s.grad_norm * (4 if s.step > 80 else 1)) for s in steps(2)]
    told[30] = replace(told[30], grad_norm=math.inf)
    told[31] = replace(told[31], grad_norm=None)
    (one,) = flagged(judge_jumps(curve_of_steps(told, joints=(80,))))
    assert one.place == "step 81"
    entries = [{"loss": 2.0, "grad_norm": n, "step": i, "epoch": i / 3} for i, n in
               enumerate((None, math.inf, 1.0), 1)]  # fmt: skip
    assert np.isnan(curve_of_state(state(tmp_path, entries, 3, 1.0)).norm).tolist() == [
        True, True, False
    ]  # fmt: skip


def test_a_state_that_begins_late_has_no_first_epoch(tmp_path):
    entries = [{"loss": 2.0, "step": i, "epoch": i / 100} for i in range(61, 101)]
    with pytest.raises(DataError, match="begins with step 61: it has no first epoch"):
        curve_of_state(state(tmp_path, entries, 100, 1.0))


def test_a_jump_is_flagged_at_the_joint_of_the_order_and_not_elsewhere():
    def jumped(joints, by=4):
        told = [replace(s, grad_norm=s.grad_norm * (by if s.step > 80 else 1)) for s in steps(2)]
        return flagged(judge_jumps(curve_of_steps(told, joints=joints)))

    (one,) = jumped((80,))
    assert one.place == "step 81"
    assert one.seen == pytest.approx(4, rel=0.3)
    assert jumped((40, 120)) == []
    assert jumped(()) == []
    assert len(jumped(None, by=20)) == 1


def test_trainings_that_differ_are_not_compared():
    a = curve(0)
    assert comparable(a, curve(1)) == ""
    assert "an epoch has 160 steps, and had 100" in comparable(a, curve(1, n=100))
    assert "learning_rate is 0.1, and was 0.2" in comparable(
        replace(a, settings={"learning_rate": 0.1}), replace(a, settings={"learning_rate": 0.2})
    )
    assert "the trainer's own" in comparable(a, replace(a, unit="the trainer's own"))
    assert "more often" in comparable(a, replace(a, step=a.step * 10, epoch_steps=a.epoch_steps))
    assert deciding({"objective": "dpo", "settings": {"beta": 0.1, "seed": 3}}) == {
        "beta": 0.1, "objective": "dpo",
    }  # fmt: skip


# -- logs ------------------------------------------------------------------------------------------


def test_only_the_first_epoch_is_taken():
    told = [*steps(0, 20), *(replace(s, step=s.step + 20) for s in steps(1, 20, epoch=2))]
    found = curve_of_steps(told)
    assert (len(found), found.seen, found.epoch_steps) == (20, 1.0, 20)
    assert curve_of_steps(steps(0, 20), epoch_steps=80).seen == 0.25


@pytest.mark.parametrize("lost", [lambda s: replace(s, epoch=2), lambda s: replace(s, step=9)])
def test_a_log_without_a_first_epoch_is_refused(lost):
    with pytest.raises(DataError, match="no first epoch"):
        curve_of_steps([lost(steps(0, 1)[0])])


def state(folder, entries, step=100, epoch=2.0):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    told = {"global_step": step, "epoch": epoch, "log_history": entries, "train_batch_size": 8}
    path.write_text(json.dumps(told))
    return path


def test_states_of_other_settings_are_not_compared(tmp_path):
    def read(rate, **more):
        entries = [{"loss": 5 - i / 10, "step": i, "epoch": i / 10, "learning_rate": rate * (1 - i / 20)}
                   for i in range(1, 11)]  # fmt: skip
        path = state(tmp_path / f"{rate}", entries, 10, 1.0)
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
        return curve_of_state(path)

    assert comparable(read(1e-3), read(1.01e-3)) == ""
    assert "learning rate is 0.00095, and was 0.00285" in comparable(read(1e-3), read(3e-3))
    why = comparable(read(1e-3), read(1.02e-3, train_batch_size=16))
    assert "train_batch_size is 8, and was 16" in why


def test_the_state_of_hf_trainer_is_read(tmp_path):
    entries = [{"loss": 5 - i / 10, "grad_norm": 1.0, "step": 10 * i, "epoch": i / 5} for i in
               range(1, 11)]  # fmt: skip
    state(tmp_path / "checkpoint-50", entries[:5], 50, 1.0)
    state(tmp_path / "checkpoint-100", [*entries, {"train_runtime": 3, "step": 100}])
    path = find_log(tmp_path)
    assert path == tmp_path / "checkpoint-100" / "trainer_state.json"
    found = curve_of_state(path)
    assert found.step.tolist() == [10, 20, 30, 40, 50]
    assert (found.epoch_steps, found.seen, found.unit) == (50, 1.0, "")
    (tmp_path / STEPS).write_text(step_lines(steps(0, 3)))
    assert find_log(tmp_path) == tmp_path / STEPS


def test_a_training_of_didacts_is_read_under_way(tmp_path):
    entries = [{"loss": s.loss, "step": s.step, "told": asdict(s)} for s in steps(0, 5)]
    path = state(tmp_path / ".model.training" / "checkpoint-5", entries, 5, 0.1)
    assert find_log(tmp_path) == path
    found = read_log(path, epoch_steps=50, joints=(25,))
    assert (found.seen, found.joints, sorted(found.sources)) == (0.1, (25,), ["a", "b"])


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([], "logs no loss of the first epoch"),
        ([{"loss": 1.0, "step": 90, "epoch": 1.8}], "logs no loss of the first epoch"),
        ([{"loss": float("nan"), "step": 1, "epoch": 0.1}], "not finite"),
        ([{"loss": [], "step": 1, "epoch": 0.1}], "not a trainer's state"),
    ],
)
def test_a_bad_state_is_refused(tmp_path, entries, match):
    with pytest.raises(DataError, match=match):
        curve_of_state(state(tmp_path, entries))
