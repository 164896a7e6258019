from __future__ import annotations

import bisect
import dataclasses
import json
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from didact.core.budget import Budget
from didact.core.errors import PoolMismatchError
from didact.core.manifest import StageRecord
from didact.core.scores import Scores, TrainingOrder
from didact.ordering.fold import folded
from didact.ordering.saw import sawed
from didact.ordering.segment import segmented
from didact.ordering.stair import staired
from didact.ordering.zigzag import zigzagged
from didact.reporting.formatting import number
from didact.reporting.joints import epoch_joints, part_joints
from didact.reporting.report import gather
from didact.reporting.sections import order as along_the_order
from didact.reporting.sections.lengths import length_distribution
from didact.reporting.sections.redundancy import redundancy
from didact.reporting.sections.samples import TEXT_CAP
from didact.reporting.sections.scores import Cut, find_cut, score_distribution
from didact.reporting.sections.sources import LISTED, SHOWN, source_shares

POOL = "p" * 32


def scores_of(values, *, higher=True):
    return Scores(np.array(values, float), higher, "m", POOL)


def report_of(case, **more):
    return gather(case.subject(**more))


# -- sources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_sources", [1, 3, 60])
def test_sources_are_counted_as_by_hand(case, n_sources):
    rows = [
        {"text": "x" * (1 + i % 90), "source": f"s{i * i % n_sources}", "id": str(i)}
        for i in range(400)
    ]
    c = case(rows)
    chosen = set(c.selection.rows.tolist())
    before, after, tokens = Counter(), Counter(), Counter()
    for i, row in enumerate(rows):
        before[row["source"]] += 1
        after[row["source"]] += i in chosen
        tokens[row["source"]] += int(c.pool.n_tokens[i])
    found = source_shares(c.pool, c.selection.rows)
    assert {s.name: s.pool.samples for s in found.rows} == before
    assert {s.name: s.chosen.samples for s in found.rows} == {k: after[k] for k in before}
    assert {s.name: s.pool.tokens for s in found.rows} == tokens
    for s in found.rows:
        assert s.share_before == pytest.approx(before[s.name] / 400)
        assert s.share_after == pytest.approx(after[s.name] / len(chosen))
        assert s.token_share_before == pytest.approx(tokens[s.name] / sum(tokens.values()))
    moved = [abs(s.share_after - s.share_before) for s in found.rows]
    assert moved == sorted(moved, reverse=True)
    assert len(found.shown) == min(len(before), SHOWN)
    assert len(found.shown) + len(found.folded) == len(before)


def test_more_sources_than_a_page_can_list_are_summed_up(case):
    n = SHOWN + LISTED + 50
    c = case([{"text": f"text {i}", "source": f"s{i}", "id": str(i)} for i in range(n)])
    found = source_shares(c.pool, c.selection.rows)
    assert len(found.rows) == SHOWN + LISTED + 1
    assert found.rows[-1].name == "(50 more sources)"
    assert found.n == n
    assert sum(s.pool.samples for s in found.rows) == n
    assert sum(s.chosen.tokens for s in found.rows) == c.pool.n_tokens[c.selection.rows].sum()
    assert sum(s.share_after for s in found.rows) == pytest.approx(1)


# -- distributions ---------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200), st.randoms())
def test_lengths_fall_in_the_bins_they_belong_to(lengths, rng):
    n_tokens = np.array(lengths)
    chosen = np.array(sorted(rng.sample(range(len(lengths)), rng.randint(0, len(lengths)))), int)
    found = length_distribution(n_tokens, chosen)
    edges = list(found.edges)
    assert edges == sorted(set(edges))
    for rows, shares in ((range(len(lengths)), found.pool), (chosen, found.chosen)):
        counts = [0] * (len(edges) - 1)
        for row in rows:
            counts[bisect.bisect_right(edges, max(lengths[row], 1)) - 1] += 1
        assert list(shares) == ([c / len(rows) for c in counts] if len(rows) else [])
    assert found.beyond == 0


@given(
    st.lists(
        st.floats(-1e6, 1e6, allow_subnormal=False) | st.sampled_from([0.0, 1.0]),
        min_size=2, max_size=200,
    )
    | st.lists(st.floats(1, 1e6), min_size=2, max_size=200),
    st.floats(0, 1),
    st.booleans(),
)  # fmt: skip
def test_no_bar_of_a_cut_selection_is_half_chosen(values, ratio, higher):
    # Scores that differ by rounding alone are drawn as one bar.
    assume(max(values) - min(values) > max(1e-9 * max(map(abs, values)), 1e-290))
    scores = scores_of(values, higher=higher)
    k = max(int(ratio * len(values)), 1)
    chosen = np.sort(np.argsort(-scores.utility, kind="stable")[:k])
    everyone = np.ones(len(values), bool)
    cut = find_cut(scores, chosen, everyone)
    found = score_distribution(scores, chosen, cut)
    assert sum(found.pool) == pytest.approx(1)
    assert sum(found.chosen) == pytest.approx(1)
    worst = min(scores.utility[chosen])
    if np.sum(scores.utility == worst) > np.sum(scores.utility[chosen] == worst):
        return  # a tie on the line: its bar is half chosen in truth
    n = len(values)
    for in_pool, in_chosen in zip(found.pool, found.chosen, strict=True):
        assert round(in_chosen * k) in (0, round(in_pool * n))


def test_positive_scores_of_many_magnitudes_get_a_logarithmic_axis():
    values = np.geomspace(1, 1e6, 1001) ** 2
    found = score_distribution(scores_of(values), np.arange(0))
    assert found.log
    assert found.beyond == 0
    assert found.pool == pytest.approx([1 / len(found.pool)] * len(found.pool), rel=0.06)
    assert not score_distribution(scores_of(values - 1), np.arange(0)).log


@pytest.mark.parametrize("value", [0.0, 3.5, -1e9])
def test_constant_scores_are_one_bar(value):
    found = score_distribution(scores_of([value] * 9), np.arange(3))
    assert sorted(found.pool) == [0.0] * (len(found.pool) - 1) + [1.0]
    assert found.edges[0] < value < found.edges[-1]


def test_a_long_tail_does_not_squeeze_the_rest():
    values = np.append(np.linspace(0, 1, 10_000), [500.0, 900.0])
    found = score_distribution(scores_of(values), np.arange(0))
    assert found.edges[-1] < 2
    assert found.beyond >= 2
    assert found.pool_quantiles[-1] == 900
    assert sum(found.pool) == pytest.approx(1)


def test_scores_that_are_all_missing_have_no_distribution(case):
    c = case(40, missing=dict.fromkeys(range(40), "broken"), budget=Budget(samples=0))
    report = report_of(c)
    assert report.sections["scores"].distribution.edges == ()
    assert report.sections["scores"].cut is None
    assert report.header.scoring.missing == (("broken", 40),)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.data())
def test_a_cut_is_a_line_with_nobody_on_the_wrong_side(values, data):
    n = len(values)
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
    candidates = {r for r in range(n) if r in chosen or data.draw(st.booleans())}
    mask = np.isin(np.arange(n), list(candidates))
    found = find_cut(scores_of(values), np.array(sorted(chosen)), mask)
    mine = [values[r] for r in chosen]
    others = [values[r] for r in candidates - chosen]
    assert (found.low, found.high) == (min(mine), max(mine))
    assert found.passed_over == sum(min(mine) < v < max(mine) for v in others)
    if found.passed_over or not others:
        assert found.at == ()
    else:
        assert set(found.at) <= {found.low, found.high}
        assert (found.low in found.at) or not any(v < found.low for v in others)
        assert (found.high in found.at) or not any(v > found.high for v in others)
        assert found.at


def test_top_k_is_cut_at_its_worst_score(case):
    for higher in (True, False):
        c = case(100, higher_is_better=higher, folder=str(higher))
        chosen = c.scores.values[c.selection.rows]
        expected = min(chosen) if higher else max(chosen)
        found = report_of(c).sections["scores"].cut
        assert found.at == (expected,)
        lower, upper = (expected, None) if higher else (None, expected)
        assert found == Cut(lower, upper, min(chosen), max(chosen), 0)


# -- along the order -------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=60),
    st.integers(1, 12),
)
def test_a_course_has_the_mean_and_quantiles_of_each_bin(values, n_bins):
    edges = np.unique(np.linspace(0, len(values), n_bins + 1).astype(int))
    found = along_the_order.course(np.array(values), edges)
    for (a, b), mean, low, high in zip(
        pairwise(edges), found.mean, found.low, found.high, strict=True
    ):
        known = [v for v in values[a:b] if v == v]  # noqa: PLR0124 - NaN
        if not known:
            assert mean is low is high is None
            continue
        assert mean == pytest.approx(np.mean(known), rel=1e-9, abs=1e-6)
        assert low == pytest.approx(np.quantile(known, 0.1), rel=1e-9, abs=1e-6)
        assert high == pytest.approx(np.quantile(known, 0.9), rel=1e-9, abs=1e-6)


@given(
    st.integers(1, 60), st.integers(1, 8), st.integers(-1, 3), st.integers(1, 3),
    st.sampled_from(["fold", "zigzag"]),
)  # fmt: skip
def test_joints_are_where_sweeps_really_end(n, layers, phase, epochs, method):
    utility = np.arange(float(n))
    settings = {"layers": layers}
    if method == "fold":
        settings["phase"] = phase
        once = folded(utility, layers=layers, phase=phase)
    else:
        once = zigzagged(utility, layers=layers)
    order = TrainingOrder(np.tile(once, epochs), POOL, method, settings, epochs=epochs)
    # A sweep is one residue class of the sorted rows; where the class changes, or an epoch begins
    # anew, is a joint.
    changes = {i for i in range(1, n) if once[i] % layers != once[i - 1] % layers}
    inside = {i + e * n for i in changes for e in range(epochs)}
    assert {joint.at for joint in part_joints(order)} == inside
    assert {joint.at for joint in epoch_joints(len(order), epochs)} == {
        n * e for e in range(1, epochs)
    }


def test_other_orders_have_no_sweeps_to_mark():
    rows = np.arange(9)
    for method, settings in (("sort", {}), ("fold", {"layers": 3, "interleave": True})):
        assert part_joints(TrainingOrder(rows, POOL, method, settings)) == ()


@given(
    st.integers(1, 80), st.integers(1, 4), st.floats(0, 0.5), st.integers(1, 4),
    st.sampled_from(["stair", "saw"]),
)  # fmt: skip
def test_windows_are_marked_where_the_order_leaves_the_sorted_one(n, sections, ratio, layers, name):
    orderer = staired if name == "stair" else sawed
    once = orderer(np.arange(float(n)), sections=sections, ratio=ratio, layers=layers)
    settings = {"sections": sections, "ratio": ratio, "layers": layers}
    found = {joint.at for joint in part_joints(TrainingOrder(once, POOL, name, settings))}
    # Where neighbors do not ascend by one, a window's sweep begins, goes on, or ends.
    broken = [i for i in range(1, n) if once[i] - once[i - 1] != 1]
    assert {i for i in broken if once[i] < once[i - 1] and name == "stair"} <= found
    outside = [i for i in broken if min(abs(i - j) for j in found | {-n}) > round(n * ratio)]
    assert outside == []


@given(st.integers(1, 60), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.integers(1, 3))
def test_a_segment_is_marked_where_its_parts_meet(n, low, high, lowest_first, epochs):
    settings = {"low": low / 10, "high": high / 10, "lowest_first": lowest_first}
    rng = np.random.default_rng(0)
    once = segmented(np.arange(float(n)), rng, **settings)
    ends = [n * low // 10, n - n * high // 10]
    part = [bisect.bisect_right(ends, rank) for rank in once.tolist()]
    changes = {i + e * n for i in range(1, n) if part[i] != part[i - 1] for e in range(epochs)}
    order = TrainingOrder(np.tile(once, epochs), POOL, "segment", settings, epochs=epochs)
    assert {joint.at for joint in part_joints(order)} == changes


@given(st.integers(0, 5000), st.sets(st.integers(1, 4999), max_size=4), st.integers(1, 300))
def test_bins_cover_the_order_once_and_end_at_joints(length, joints, at_most):
    joints = sorted(j for j in joints if j < length)
    edges = along_the_order.bin_edges(length, joints, None, at_most).tolist()
    assert edges[0] == 0
    assert edges[-1] == length
    assert edges == sorted(set(edges))
    assert len(edges) - 1 <= at_most + 2 * len(joints) + 1
    assert set(joints) <= set(edges)


def test_bins_are_steps_when_they_fit():
    assert along_the_order.bin_edges(1000, [333], 300, 400).tolist() == [0, 300, 600, 900, 1000]
    assert len(along_the_order.bin_edges(1000, [], 2, 400)) == 401


def test_the_order_is_drawn_with_the_score_it_was_made_with(case):
    c = case(100)
    other = dataclasses.replace(
        c.scores, values=np.arange(100.0), method="other", higher_is_better=False
    )
    found = report_of(c, order_scores=other).sections["order"]
    assert found.score_method == "other"
    assert not found.higher_is_better
    assert found.score.mean == tuple(c.order.rows.astype(float).tolist())


def test_the_mix_of_sources_adds_up_in_every_bin(case):
    rows = [{"text": f"text {i}", "source": f"s{i % 9}", "id": str(i)} for i in range(900)]
    c = case(rows, budget=Budget(ratio=1), order="shuffle")
    mix = report_of(c).sections["order"].mix
    assert len(mix.names) == along_the_order.MOST_SOURCES + 1
    assert mix.names[-1] == along_the_order.REST
    assert np.sum(mix.shares, axis=0) == pytest.approx(1)
    where = {n: i for i, n in enumerate(mix.names)}
    first = [f"s{r % 9}" for r in c.order.rows[mix.edges[0] : mix.edges[1]].tolist()]
    counted = Counter(n if n in where else along_the_order.REST for n in first)
    for name, i in where.items():
        assert mix.shares[i][0] == pytest.approx(counted[name] / len(first))


def test_one_source_has_no_mix(case):
    c = case([{"text": f"text {i}", "source": "only", "id": str(i)} for i in range(20)])
    assert report_of(c).sections["order"].mix is None


# -- redundancy ------------------------------------------------------------------------------------


def test_redundancy_is_raw_over_compressed_of_sets_of_equal_bytes(case):
    c = case(300)
    free = np.flatnonzero(c.subject().candidates)
    found = redundancy(c.pool, c.selection.rows, free, c.ctx)
    text = "".join(c.pool.read(c.selection.rows, ["text"]).column(0).to_pylist()).encode()
    # zstd's own long-distance mode by its command-line meaning, not through didact.text.
    settings = zstandard.ZstdCompressionParameters(
        compression_level=3, window_log=24, enable_ldm=True
    )
    size = len(zstandard.ZstdCompressor(compression_params=settings).compress(text))
    assert found.bytes == found.chosen_bytes == len(text)
    assert found.chosen == pytest.approx(len(text) / size, rel=0.02)
    assert len(found.random) == 5
    assert len(set(found.random)) > 1
    assert not found.sampled
    assert found == redundancy(c.pool, c.selection.rows, free, c.ctx)


def test_a_set_of_near_copies_stands_out_and_a_varied_one_does_too(case):
    rng = random.Random(5)
    noise = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=400)) for _ in range(150)]
    copies = [f"{i} {noise[0]}" for i in range(150)]
    rows = [{"text": t, "id": str(i)} for i, t in enumerate(noise + copies)]
    values = [0.0] * 150 + [1.0] * 150
    asked = {"values": values, "budget": Budget(samples=100)}
    alike, varied = (
        report_of(case(rows, higher_is_better=better, folder=str(better), **asked))
        .sections["redundancy"]
        for better in (True, False)
    )  # fmt: skip
    assert alike.chosen > 2 * max(alike.random)
    assert varied.chosen < min(varied.random)


def test_a_large_set_is_represented_by_a_random_part(case):
    c = case(300)
    free = np.arange(300)
    found = redundancy(c.pool, c.selection.rows, free, c.ctx, cap_bytes=1000)
    assert found.sampled
    assert found.bytes == 1000
    assert found.chosen_bytes > 1000


# -- samples ---------------------------------------------------------------------------------------


def named(report, name):
    return next((g.samples for g in report.sections["samples"].groups if g.name == name), ())


def test_samples_are_the_ones_a_person_would_pick(case):
    c = case(200, budget=Budget(samples=40))
    report = report_of(c)
    texts = c.pool.read(np.arange(200), ["text"]).column(0).to_pylist()
    firsts = {}
    for i, t in enumerate(texts):
        firsts.setdefault(t, []).append(i)
    # One row of each group of equal texts may be chosen: its best.
    rivals = sorted(
        (max(group, key=lambda r: c.scores.values[r]) for group in firsts.values()),
        key=lambda r: -c.scores.values[r],
    )
    assert [s.row for s in named(report, "Top")] == rivals[:4]
    assert [s.row for s in named(report, "At the line")][:3] == rivals[37:40]
    # Left out beside the line: the next best rows, of equal texts the first in the pool.
    last, first = rivals[39], named(report, "At the line")[3]
    cut = number(c.scores.values[last])
    short = number(c.scores.values[last] - c.scores.values[first.row])
    assert first.why == (
        f"below the cut: {short} short of the cut at {cut}; nearest chosen: id-{last} at {cut}"
    )
    assert named(report, "At the line")[2].why.startswith(f"top_k; it is at the cut, {cut}; ")
    assert [s.row for s in named(report, "Bottom of the chosen")] == rivals[36:32:-1]
    for sample in named(report, "Top"):
        assert sample.score == c.scores.values[sample.row]
        assert sample.turns[0].text == texts[sample.row]
        assert c.order.rows[sample.position - 1] == sample.row
        past = number(sample.score - c.scores.values[last])
        assert sample.why == (
            f"top_k; {past} past the cut at {cut}; nearest not chosen: id-{first.row} at "
            f"{number(first.score)}; ordered: fold by made_up"
        )
        assert sample.id == f"id-{sample.row}"
    assert [s.rank for s in named(report, "Top")] == [1, 2, 3, 4]
    assert all(s.position is None for s in named(report, "Rejected"))
    worst = named(report, "Rejected")[0]
    assert worst.rank == report.header.flow.candidates
    everything = [
        s.row
        for g in report.sections["samples"].groups
        if g.name != "Duplicates"
        for s in g.samples
    ]
    assert len(everything) == len(set(everything))


def test_the_largest_groups_of_duplicates_come_with_their_counts(case):
    texts = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d", "e", "f"]
    c = case(
        [{"text": t, "id": str(i)} for i, t in enumerate(texts)],
        values=range(len(texts)), budget=Budget(samples=4),
    )  # fmt: skip
    found = named(report_of(c), "Duplicates")
    # Chosen by score: f, e, d, and one c. Of the a and b none.
    assert [(s.row, s.why.split(";")[0]) for s in found] == [
        (0, "5 equal rows, 0 of them chosen"),
        (5, "3 equal rows, 0 of them chosen"),
        (8, "2 equal rows, 1 of them chosen"),
    ]


def test_chats_show_their_roles_and_long_text_is_cut(case):
    rows = [
        {
            "id": f"c{i}",
            "messages": [
                {"role": "user", "content": "q" * 1500 + str(i)},
                {"role": "assistant", "content": "a" * 9000},
            ],
        }
        for i in range(8)
    ]
    (sample, *_) = named(report_of(case(rows)), "Top")
    assert [t.role for t in sample.turns] == ["user", "assistant"]
    assert sum(len(t.text) for t in sample.turns) == sample.shown == TEXT_CAP
    assert sample.characters == 1501 + 9000


def test_pairs_show_both_branches(case):
    rows = [
        {"id": str(i), "prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"}
        for i in range(8)
    ]
    (sample, *_) = named(report_of(case(rows)), "Top")
    shown = " ".join(t.text for t in sample.turns)
    assert all(f"{word}{sample.row}" in shown for word in ("p", "good ", "bad "))
    assert {"chosen", "rejected"} <= {t.role for t in sample.turns}


def test_without_scores_examples_are_drawn_from_both_sides(case, without_scores):
    c = without_scores(case(100))
    report = report_of(c)
    chosen = set(c.selection.rows.tolist())
    assert {s.row for s in named(report, "Chosen")} <= chosen
    assert not {s.row for s in named(report, "Not chosen")} & chosen
    assert len(named(report, "Chosen")) == len(named(report, "Not chosen")) == 4
    assert "scores" not in report.sections
    assert report.header.scoring is report.sections["order"].score is None


def test_rows_without_a_score_are_shown_with_the_reason(case):
    report = report_of(case(50, missing={3: "no answer", 9: "empty"}))
    assert [(s.row, s.why) for s in named(report, "Without a score")] == [
        (3, "no score: no answer"),
        (9, "no score: empty"),
    ]
    assert any("2 rows have no score" in n.text for n in report.header.notices)


# -- the whole -------------------------------------------------------------------------------------


def test_rows_are_counted_from_the_file_to_the_choice(case):
    c = case(200, data={"validation": 0.1})
    flow = report_of(c).header.flow
    texts = c.pool.read(np.arange(200), ["text"]).column(0).to_pylist()
    assert (flow.read, flow.pool, flow.chosen) == (200, 200, len(c.selection))
    assert flow.duplicates == 200 - len(set(texts))
    assert flow.validation == np.count_nonzero(c.pool.in_validation) > 0
    free = {t for t, held in zip(texts, c.pool.in_validation, strict=True) if not held}
    assert flow.candidates == len(free)


def test_candidates_hold_the_chosen_copy_of_a_duplicate(case):
    c = case(
        [{"text": "same", "id": str(i)} for i in range(3)],
        values=[0, 2, 1],
        budget=Budget(samples=1),
    )
    assert c.subject().candidates.tolist() == [False, True, False]


def test_warnings_come_first_and_say_what_was_decided(case):
    c = case(50, budget=Budget(ratio=1.0))
    stages = [
        StageRecord("data", "0" * 32, {}, notes=("seen in the flow",)),
        StageRecord("select", "1" * 32, {}, notes=(*c.selection.notes, "one more")),
    ]
    notices = report_of(c, stages=stages).header.notices
    kinds = [n.kind for n in notices]
    assert kinds == sorted(kinds, reverse=True)
    told = [n.text for n in notices]
    assert c.selection.notes  # the duplicates make the pool smaller than the budget
    assert all(told.count(note) == 1 for note in c.selection.notes)
    assert "select: one more" in told
    assert not any("seen in the flow" in t for t in told)
    assert "estimate (bytes/4)" in told[0]


@pytest.mark.parametrize("budget", [Budget(samples=0), Budget(samples=1), Budget(ratio=1.0)])
@pytest.mark.parametrize("select", ["top_k", "gumbel_top_k", "middle"])
def test_every_size_of_choice_has_a_report_with_a_json_form(case, budget, select):
    report = report_of(case(30, budget=budget, select=select, order="sort"))
    data = json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))
    assert data["header"]["chosen"]["samples"] == report.header.flow.chosen
    assert len(data["sections"]["sources"]["rows"]) == 3
    assert ("order" not in data["sections"]) == (report.header.flow.chosen == 0)


def test_values_of_another_pool_are_refused(case):
    one, two = case(30, folder="one"), case(40, folder="two")
    for mixed in (
        dataclasses.replace(one, scores=two.scores),
        dataclasses.replace(one, selection=two.selection),
        dataclasses.replace(one, order=two.order),
    ):
        with pytest.raises(PoolMismatchError):
            report_of(mixed)
