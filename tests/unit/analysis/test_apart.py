"""What is told of a table of runs: numbers, sentences, what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from didact.analysis.apart import told_apart
from didact.analysis.arms import Arm, tables
from didact.analysis.decisions import between_seeds, ranked_alike
from didact.analysis.runs import Measure, What
from didact.analysis.told import Told
from didact.core.errors import ConfigError, DataError

BITS = What("held_out.jsonl", "", "bits_per_byte")
FAR = {"a": [2.80, 2.81, 2.79], "b": [2.90, 2.91, 2.92], "c": [3.10, 3.09, 3.11]}


def told_of(runs, **settings):
    (told,), notes = told_apart(runs, **settings)
    return told, notes


def test_sets_that_are_far_apart_are_ranked(runs_of):
    told, notes = told_of(runs_of(FAR))
    means = np.array([2.80, 2.91, 3.10])
    assert told.snr == pytest.approx(means.std(ddof=1) / 0.01)
    assert told.ranking == ("a", "b", "c")
    assert told.ties == ()
    assert told.decision_accuracy == 1
    assert told.unit == "runs"
    assert [s.runs for s in told.sets] == [3, 3, 3]
    assert all(s.low < s.mean < s.high for s in told.sets)
    assert notes == ()


def test_higher_is_better_turns_the_ranking(runs_of):
    told, _ = told_of(runs_of(FAR, What("f", "t", "accuracy"), higher=True))
    assert told.ranking == ("c", "b", "a")
    assert (told.file, told.task, told.metric) == ("f", "t", "accuracy")


def test_below_a_signal_to_noise_of_two_nothing_is_ranked(runs_of):
    told, _ = told_of(runs_of({"a": [1.0, 2, 3], "b": [1.5, 2.5, 3.5]}))
    assert told.snr == pytest.approx(0.5 / math.sqrt(2))
    assert told.ranking is None
    assert told.ties == (("a", "b"),)
    assert "Below 2 nothing is ranked." in told.sentences()
    assert "All sets are ties: no two can be told apart." in told.sentences()


def test_some_are_ties_and_some_are_not(runs_of):
    told, _ = told_of(runs_of(FAR | {"d": [2.805, 2.79, 2.81]}))
    assert told.ties == (("a", "d"),)
    assert told.ranking is not None
    assert "Ties: a and d." in told.sentences()
    for d in told.differences:
        assert d.tie == (d.holm_low <= 0 <= d.holm_high)


def test_what_is_detectable_follows_the_formula(runs_of):
    from didact.analysis.power import detectable

    told, _ = told_of(runs_of(FAR))
    assert told.detectable == pytest.approx(detectable(0.01, 3, comparisons=3, df=6))
    asked, _ = told_of(runs_of(FAR), wanted=told.detectable * 1.0001)
    assert asked.seeds_needed == 3
    by_metric, _ = told_of(runs_of(FAR), wanted={"bits_per_byte": 0.5})
    assert (by_metric.wanted, by_metric.seeds_needed) == (0.5, 2)
    assert told.wanted == told.set_sd


def test_one_run_a_set_tells_nothing(runs_of):
    told, _ = told_of(runs_of({"a": [1.0], "b": [2.0]}))
    assert (told.snr, told.detectable, told.seeds_needed, told.ranking) == (None,) * 4
    assert told.decision_accuracy is None
    assert told.ties == (("a", "b"),)
    assert told.sentences()[0].startswith("No set has two runs")
    json.dumps(told.to_json(), allow_nan=False)


def test_equal_values_tell_nothing(runs_of):
    told, _ = told_of(runs_of({"a": [0.1, 0.1], "b": [0.3, 0.3]}))
    assert (told.snr, told.detectable, told.seeds_needed, told.ranking) == (None,) * 4
    assert told.ties == (("a", "b"),)
    assert told.sentences()[0].startswith("All runs of every set have the same value")
    told, _ = told_of(runs_of({"a": [0.1, 0.1], "b": [0.1, 0.1]}))
    assert told.set_sd == 0
    json.dumps(told.to_json(), allow_nan=False)


def test_as_json_and_back(runs_of):
    told, _ = told_of(runs_of(FAR | {"d": [2.805, 2.79, 2.81]}))
    text = json.dumps(told.to_json(), allow_nan=False)
    assert Told.from_json(json.loads(text)) == told
    assert told.to_json()["sentences"] == list(told.sentences())


def test_the_order_of_the_runs_changes_nothing(runs_of):
    runs = runs_of(FAR | {"d": [2.805, 2.79, 2.81]})
    there, back = told_of(runs)[0].to_json(), told_of(runs[::-1])[0].to_json()
    assert there["ties"] == back["ties"]
    assert there["snr"] == pytest.approx(back["snr"])
    assert there["ranking"] == back["ranking"]


def test_runs_are_paired_by_sample(sampled):
    # samples differ by 1, sets by 0.1, runs by 0.01: only paired can the sets be told apart
    rng = np.random.default_rng(0)
    bits = rng.normal(3, 1, 300)
    runs = [
        sampled(f"{label}{i}", label, bits + level + 0.01 * i + rng.normal(0, 0.01, 300))
        for label, level in (("a", 0.0), ("b", 0.1))
        for i in range(3)
    ]
    told, _ = told_of(runs)
    (pair,) = told.differences
    assert not pair.tie
    assert pair.high - pair.low < 0.1
    assert all(s.high - s.low > 0.2 for s in told.sets)
    assert (told.unit, told.n_samples) == ("runs and samples", 300)


def test_only_samples_that_all_runs_have_are_compared(sampled):
    rng = np.random.default_rng(1)
    bits = rng.normal(3, 1, 100)
    short = [
        sampled(f"{s}{i}", s, (bits + 0.1 * i)[: 100 - 10 * i], np.arange(100 - 10 * i))
        for s in "ab"
        for i in range(3)
    ]
    told, _ = told_of(short)
    assert told.n_samples == 80
    assert told.sets[0].mean == pytest.approx(bits[:80].mean() + 0.1)
    assert (
        "80 samples that all runs have are compared; 4 of 6 runs have more, up to 100" in told.notes
    )
    with pytest.raises(DataError, match=r"20 samples are common to all runs, .* has 100"):
        told_apart([*short, sampled("c", "c", bits[:20], np.arange(20))])


def test_twins_are_one_run_and_said(sampled):
    rng = np.random.default_rng(2)
    bits = rng.normal(3, 1, 50)
    twins = [sampled(f"a{i}", "a", bits, seeds={"init": i}) for i in range(3)]
    others = [sampled(f"b{i}", "b", bits + 0.1 * i, seeds={"init": i}) for i in range(3)]
    told, notes = told_of([*twins, *others])
    assert {s.set: s.runs for s in told.sets} == {"a": 1, "b": 3}
    assert len(notes) == 2
    assert notes[0].startswith("a1 is left out: every sample is as in a0 to the last bit")
    told, _ = told_of([*twins, *[sampled(f"b{i}", "b", bits + 1) for i in range(2)]])
    assert told.snr is None


def test_a_task_that_a_run_lacks_is_compared_without_it(runs_of):
    runs = runs_of(FAR)
    extra = What("gsm8k.jsonl", "", "bits_per_byte")
    more = [
        replace(r, measures={**r.measures, extra: Measure(i / 10, False)})
        for i, r in enumerate(runs[:-2])
    ]
    found, _ = told_apart([*more, *runs[-2:]])
    gsm8k, whole = found
    assert [s.runs for s in gsm8k.sets] == [3, 3, 1]
    assert (
        "2 of 9 runs have no gsm8k.jsonl · bits_per_byte and are left out of it: c1, c2"
        in gsm8k.notes
    )
    assert "One run only, taken to vary as the others do: 'c'." in gsm8k.notes
    assert len(whole.sets) == 3


def test_draws_are_the_unit_where_a_set_has_several(runs_of):
    rng = np.random.default_rng(4)
    values = {"random": [], "bm25": list(3 + rng.normal(0, 0.01, 3))}
    runs = runs_of({"bm25": values["bm25"]}, draw="x")
    for d in range(4):
        level = 2.8 + 0.1 * d
        runs += [
            replace(r, set="random", name=f"{r.name}-{d}")
            for r in runs_of({f"r{d}": list(level + rng.normal(0, 0.01, 3))}, draw=f"d{d}")
        ]
    told, _ = told_of(runs)
    (random,) = [s for s in told.sets if s.set == "random"]
    assert (random.runs, random.draws) == (12, 4)
    # the interval is of four numbers that spread by 0.13, not of twelve
    assert random.high - random.low > 2 * 3.1 * 0.12 / 2


def test_sizes_are_kept_apart_and_compared(runs_of):
    small = {"a": [1.0, 1.01], "b": [1.1, 1.11], "c": [1.2, 1.21]}
    large = {"a": [0.5, 0.51], "b": [0.7, 0.71], "c": [0.6, 0.61]}
    runs = runs_of(small, size=10**6) + runs_of(large, size=10**7)
    first, second = told_apart(runs)[0]
    assert (first.size, second.size) == (10**6, 10**7)
    assert first.decides_larger == {"10000000": pytest.approx(2 / 3)}
    assert second.decides_larger == {}
    assert "This size ranks 67% of pairs as 10,000,000 parameters do." in first.sentences()
    with pytest.raises(DataError, match="has no size"):
        told_apart([*runs, *runs_of({"d": [1.0]})])


def test_decision_accuracy_by_hand():
    def arm(label, *values):
        return Arm(set=label, values=np.array(values), unit_of=np.arange(len(values)))

    a, b = arm("a", 1.0, 2.0), arm("b", 1.5, 4.0)
    # (one, others): a (1, 2) (2, 1); b (1.5, 4) (4, 1.5); hits: 1<1.5 & 2<4, 1<4 & 2>1.5 no,
    # 2>1.5 & 1<4 no, 2<4 & 1<1.5
    assert between_seeds([a, b]) == 0.5
    assert between_seeds([a, arm("c", 9.0)]) is None
    assert between_seeds([arm("a", 1.0, 1.0), arm("b", 1.0, 1.0)]) == 0.5
    means = {"a": a.mean, "b": b.mean}
    assert ranked_alike(means, {"a": 3.0, "b": 2.0}) == 0
    assert ranked_alike(means, {"a": 2.0, "b": 2.0, "c": 1.0}) == 0.5  # a tie is half a hit
    assert ranked_alike(means, {"a": 3.0}) is None


def test_decision_accuracy_of_sets_without_a_difference_is_chance():
    rng = np.random.default_rng(5)
    found = [
        between_seeds(
            [Arm(set=str(i), values=rng.normal(size=3), unit_of=np.arange(3)) for i in range(4)]
        )
        for _ in range(600)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda runs: runs[:3],
            "runs of two sets are needed to tell sets apart, there is one, 'a'",
        ),
        (lambda runs: [*runs, runs[0]], "a0: is given twice"),
        (
            lambda runs: [replace(r, seeds={"init": min(i, 1)}) for i, r in enumerate(runs)],
            r"a1 and a2: are runs of one set, 'a', with the same seeds \(init 1\)",
        ),
        (
            lambda runs: [*runs[:-1], replace(runs[-1], measures={BITS: Measure(3.0, True)})],
            "a0 and c2: of held_out.jsonl · bits_per_byte, higher is better in one and worse",
        ),
        (
            lambda runs: [
                replace(r, measures={What(r.set, "", "loss"): Measure(1.0, False)}) for r in runs
            ],
            "no file and task is in runs of two sets",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs_of, change, message):
    with pytest.raises(DataError, match=message):
        told_apart(change(runs_of(FAR)))


def test_seeds_that_are_not_known_are_not_the_same(runs_of):
    runs = runs_of(FAR, seeds={"init": None, "draw": None, "order": None})
    assert told_of(runs)[0].ranking is not None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_refused(runs_of, value):
    with pytest.raises(DataError, match="a1: held_out.jsonl · bits_per_byte is (nan|inf)"):
        runs_of({"a": [1.0, value]})


@pytest.mark.parametrize("wanted", [0, -1.0, math.nan, {"bits_per_byte": 0.0}])
def test_a_wanted_difference_is_above_zero(runs_of, wanted):
    with pytest.raises(ConfigError, match="is no difference; expected a number above 0"):
        told_apart(runs_of(FAR), wanted)


def test_a_wanted_difference_of_no_metric_is_refused(runs_of):
    with pytest.raises(
        ConfigError, match="there is no metric 'bpb'; expected one of bits_per_byte"
    ):
        told_apart(runs_of(FAR), {"bpb": 0.1})


def test_unequal_numbers_of_runs_are_said(runs_of):
    told, _ = told_of(runs_of({"a": [1.0, 2, 1, 2], "b": [2.0, 3]}))
    assert any(n.startswith("Sets have from 2 to 4 runs") for n in told.notes)
    told, _ = told_of(runs_of({"a": [1.0, 2, 1], "b": [2.0, 3]}))
    assert not any(n.startswith("Sets have") for n in told.notes)


def test_few_samples_are_said(sampled):
    rng = np.random.default_rng(6)
    runs = [
        sampled(f"{s}{i}", s, rng.normal(3, 1, 40), n_bytes=np.ones(40))
        for s in "ab"
        for i in range(2)
    ]
    told, _ = told_of(runs)
    assert any(n.startswith("The 40 samples weigh as much as 40 of equal size") for n in told.notes)


def test_lengths_that_differ_between_runs_are_said(sampled):
    bits = np.arange(1.0, 61)
    runs = [
        sampled(f"{s}{i}", s, bits + i, n_bytes=np.full(60, 2.0)) for s in "ab" for i in range(2)
    ]
    runs.append(sampled("c", "c", bits, n_bytes=np.where(np.arange(60) < 5, 3.0, 2.0)))
    (table,) = tables(runs)
    assert any(n.startswith("5 of 60 samples were read at different lengths") for n in table.notes)
