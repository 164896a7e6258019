from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core.scores import TrainingOrder
from didact.reporting import TrainingFacts
from didact.reporting.bins import smoothed
from didact.reporting.curves import Line, along, curve
from didact.reporting.joints import Joint, step_joints
from didact.reporting.report import gather
from didact.reporting.sections.training import recipe
from didact.reporting.source_losses import LISTED, MOST_LINES, REST, source_losses
from didact.reporting.training_log import BINS, training
from didact.training.telemetry import Step, read_steps, step_lines

POOL = "p" * 32
BATCH = 8


def order_of(n, *, epochs=1, batch_size=BATCH, method="fold", **settings):
    rows = np.tile(np.arange(n), epochs)
    settings = {"layers": 3, "phase": 0} if method == "fold" and not settings else settings
    return TrainingOrder(rows, POOL, method, settings, epochs=epochs, batch_size=batch_size)


def log(losses, **more):
    """Steps with these losses; each keyword holds one value a step."""
    return tuple(
        Step(step=i + 1, loss=loss, **{name: values[i] for name, values in more.items()})
        for i, loss in enumerate(losses)
    )


def weighted(pairs):
    """Mean of (value, weight), by hand."""
    by = sum(w for _, w in pairs)
    return sum(v * w for v, w in pairs) / by if by else None


# -- numbers ---------------------------------------------------------------------------------------


def test_the_headline_numbers_are_those_of_a_plain_loop(made_training):
    order = order_of(203, epochs=2)
    facts = made_training(order, skipped=3)
    found = training(facts, order)
    steps = facts.steps
    first = [(s.loss, s.learnt) for s in steps if s.epoch == 1]
    assert found.first_epoch_loss == pytest.approx(weighted(first))
    last = round(0.05 * len(steps))
    assert found.last_steps == last == 3
    assert found.last_loss == pytest.approx(weighted([(s.loss, s.learnt) for s in steps[-last:]]))
    assert found.tokens == sum(s.tokens for s in steps) == steps[-1].total_tokens
    assert found.padding_ratio == pytest.approx(sum(s.executed for s in steps) / found.tokens)
    assert found.tokens_per_second == pytest.approx(found.tokens / steps[-1].seconds)
    assert found.flops_ratio == pytest.approx(1.021)
    assert found.skipped == 3
    assert found.samples == 2 * 203 - 3
    assert found.epochs == 2
    assert (found.mfu, found.device, found.dtype) == (0.214, "cpu", "float32")
    assert found.seeds == {"init": None, "draw": 3, "order": 17}


def test_a_step_without_a_learnt_token_counts_nowhere():
    steps = log(
        [2.0, 0.0, 4.0], learnt=[10.0, 0.0, 30.0], samples=[8, 0, 8], skipped=[0, 8, 0],
        tokens=[5, 0, 5],
    )  # fmt: skip
    found = training(TrainingFacts(steps), order_of(24))
    assert found.first_epoch_loss == pytest.approx(3.5)
    assert found.loss.mean == (2.0, None, 4.0)
    assert found.skipped == 8


def test_a_log_that_tells_losses_alone_is_enough():
    found = training(TrainingFacts(log([3.0, 2.0, 1.0])), order_of(24))
    assert found.last_loss == 1.0
    assert found.first_epoch_loss == 2.0
    assert found.amounts == ()
    for name in ("rate", "norm", "by_source", "tokens", "flops_ratio", "tokens_per_second", "mfu"):
        assert getattr(found, name) is None


def test_a_log_that_begins_late_has_no_first_epoch_loss():
    steps = tuple(Step(step=i, epoch=1, loss=2.0) for i in range(5, 9))
    found = training(TrainingFacts(steps), order_of(64))
    assert found.first_epoch_loss is None
    assert found.edges == (4, 5, 6, 7, 8)
    assert training(TrainingFacts(()), order_of(64)) is None


def test_records_of_another_kind_are_not_said():
    about = {
        "flops": "many", "foretold_flops": None, "mfu": float("nan"), "device": 7, "seeds": [1],
        "settings": "none", "epochs": "two", "seconds": True,
    }  # fmt: skip
    found = training(TrainingFacts(log([3.0]), about), order_of(8))
    assert (found.flops, found.mfu, found.device, found.seconds) == (None, None, "", None)
    assert found.seeds == found.settings == {}


@given(
    st.integers(1, 1500), st.integers(1, 4), st.sampled_from([1, 3, 7]), st.randoms()
)  # fmt: skip
def test_bins_lose_no_step_and_keep_the_extremes(n, epochs, layers, rng):
    order = order_of(n * BATCH // epochs or 1, epochs=epochs, layers=layers, phase=0)
    losses = [rng.uniform(0.5, 9) for _ in range(n)]
    learnt = [float(rng.randint(1, 9)) for _ in range(n)]
    found = training(TrainingFacts(log(losses, learnt=learnt)), order)
    assert found.edges[0] == 0
    assert found.edges[-1] == n
    assert len(found.edges) - 1 <= BINS + 2 * len(found.joints) + 1
    for (a, b), mean, low, high in zip(
        pairwise(found.edges), found.loss.mean, found.loss.low, found.loss.high, strict=True
    ):
        own = list(zip(losses[a:b], learnt[a:b], strict=True))
        assert mean == pytest.approx(weighted(own))
        assert (low, high) == (min(losses[a:b]), max(losses[a:b]))
    assert max(found.loss.high) == max(losses)
    assert {round(j.at) for j in found.joints} - {n} <= set(found.edges)


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 5)), min_size=1, max_size=40),
    st.sets(st.integers(1, 39), max_size=3),
    st.integers(0, 6),
)
def test_a_smooth_line_is_a_mean_of_neighbors_on_one_side_of_a_joint(bins, joints, half):
    starts = [0, *sorted(j for j in joints if j < len(bins))]
    total = np.array([v * w for v, w in bins])
    weight = np.array([float(w) for _, w in bins])
    found = smoothed(total, weight, np.array(starts), half)
    for i, value in enumerate(found):
        begin = max(s for s in starts if s <= i)
        end = min([s for s in starts if s > i], default=len(bins))
        expected = weighted(bins[max(begin, i - half) : min(end, i + half + 1)])
        if expected is None:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(expected, abs=1e-9)


def test_a_fold_s_cliffs_stay_cliffs(made_training):
    order = order_of(4800)
    found = training(made_training(order), order)
    joints = [round(j.at) for j in found.joints]
    assert joints == [200, 400]
    for joint in joints:
        at = found.edges.index(joint)
        before, after = found.smooth[at - 1], found.smooth[at]
        # the fixture's saw falls by 0.35 in one step
        assert before - after > 0.2


# -- joints ----------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 3), st.integers(1, 9), st.integers(1, 5))
def test_joints_in_steps_are_where_the_samples_are_read(n, epochs, batch, layers):
    order = order_of(n, epochs=epochs, batch_size=batch, layers=layers, phase=0)
    # An epoch's last step is smaller; the rows of a fold's sweep are one residue class.
    steps, sweep_of = [], []
    sizes = [len(range(j, n, layers)) for j in range(layers)]
    positions = [sweep for sweep, size in enumerate(sizes) for _ in range(size)]
    for epoch in range(epochs):
        for a in range(0, n, batch):
            part = positions[a : a + batch]
            steps.append(
                Step(step=len(steps) + 1, loss=1.0, epoch=epoch + 1, samples=len(part), skipped=0)
            )
            sweep_of.append([(epoch, sweep) for sweep in part])
    found = step_joints(steps, order, batch)
    assert [j.at for j in found] == sorted(j.at for j in found)
    read = [place for step in sweep_of for place in step]
    owner = [i for i, step in enumerate(sweep_of) for _ in step]
    changes = [i for i in range(1, len(read)) if read[i] != read[i - 1]]
    assert len(found) == len(changes)
    for joint, i in zip(found, changes, strict=True):
        # exact where a step begins, inside of the step that holds both otherwise
        begins = owner[i] != owner[i - 1]
        inside = owner[i] < joint.at < owner[i] + 1
        assert joint.at == pytest.approx(owner[i]) if begins else inside
        assert joint.name.startswith("epoch") == (read[i][0] != read[i - 1][0])


def test_a_log_without_counts_goes_by_the_batch_size():
    order = order_of(48, epochs=2)
    found = step_joints(log([1.0] * 12), order, BATCH)
    assert [(j.at, j.name) for j in found] == [
        (2, "sweep 2"), (4, "sweep 3"), (6, "epoch 2"), (8, "sweep 2"), (10, "sweep 3"),
    ]  # fmt: skip


def test_more_joints_than_can_be_told_apart_are_left_out():
    facts = order_of(48)
    many = log([1.0] * 6 * 30, epoch=[1 + i // 6 for i in range(180)])
    found = step_joints(many, facts, BATCH)
    assert [j.at for j in found] == list(range(6, 180, 6))
    assert all(j.starts_epoch for j in found)
    more = log([1.0] * 6 * 100, epoch=[1 + i // 6 for i in range(600)])
    assert step_joints(more, facts, BATCH) == ()


def test_an_order_that_is_read_again_has_its_joints_again():
    found = step_joints(log([1.0] * 12, epoch=[1] * 6 + [2] * 6), order_of(48), BATCH)
    assert [j.at for j in found] == [2, 4, 6, 8, 10]
    assert [j.name for j in found][2] == "epoch 2"


# -- sources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_sources", [2, 5, 9, LISTED + 40])
def test_losses_by_source_are_counted_as_by_hand(n_sources):
    rng = np.random.default_rng(n_sources)
    told = [
        {
            f"s{j}": (float(rng.uniform(1, 5)), float(rng.integers(1, 9)))
            for j in rng.choice(n_sources, size=min(n_sources, 30), replace=False)
        }
        for _ in range(200)
    ]
    steps = log([1.0] * 200, epoch=[1] * 120 + [2] * 80, loss_by_source=told)
    first = np.array([s.epoch == 1 for s in steps])
    found = source_losses(steps, [120], first, 20)
    everything = sum(w for t in told for _, w in t.values())
    mass = {f"s{j}": sum(t[f"s{j}"][1] for t in told if f"s{j}" in t) for j in range(n_sources)}
    assert found.n == n_sources
    assert sum(row.share for row in found.rows) == pytest.approx(1)
    for row in found.rows:
        if row.name not in mass:
            assert row.name == f"({n_sources - LISTED:,} more sources)"
            continue
        assert row.share == pytest.approx(mass[row.name] / everything)
        for mean, part in (
            (row.first_epoch, told[:120]), (row.first, told[:20]), (row.last, told[-20:]),
        ):  # fmt: skip
            assert mean == pytest.approx(weighted([t[row.name] for t in part if row.name in t]))
    shares = [row.share for row in found.rows[:LISTED]]
    assert shares == sorted(shares, reverse=True)
    few = n_sources <= MOST_LINES + 1
    assert len(found.names) == len(found.smooth) == (n_sources if few else MOST_LINES + 1)
    assert (REST in found.names) != few
    assert {len(line) for line in found.smooth} == {len(found.edges) - 1}


def test_a_source_that_is_not_read_leaves_a_gap():
    told = [{"a": (2.0, 1.0)} | ({"b": (3.0, 1.0)} if 40 <= i < 60 else {}) for i in range(80)]
    found = source_losses(log([2.0] * 80, loss_by_source=told), [], np.ones(80, bool), 8)
    line = found.smooth[found.names.index("b")]
    assert line[0] is None
    assert line[50] == 3.0
    assert found.rows[1].last is None
    assert found.rows[1].change is None


def test_one_source_has_no_lines_of_its_own():
    steps = log([2.0] * 9, loss_by_source=[{"a": (2.0, 1.0)}] * 9)
    assert source_losses(steps, [], np.ones(9, bool), 1) is None


# -- the curve -------------------------------------------------------------------------------------


def drawn(lines, edges=None, **more):
    edges = edges or list(range(len(lines[0].values) + 1))
    more = {"described": "d", "x_label": "x", "y_label": "y", **more}
    return ET.fromstring(curve(edges, lines, **more))  # noqa: S314 - our own markup


def of_class(root, name):
    return [e for e in root.iter() if name in e.get("class", "").split()]


def points(element):
    return [tuple(map(float, p.split())) for p in re.split("[ML]", element.get("d")) if p]


def test_a_line_stands_where_its_numbers_say():
    root = drawn([Line("", (1.0, 3.0, 2.0, 3.0))], joints=[Joint(2, "sweep 2")])
    (line,) = of_class(root, "line")
    assert [x for x, _ in points(line)] == [125, 375, 625, 875]
    ys = [y for _, y in points(line)]
    assert ys[0] > ys[2] > ys[1] == ys[3]
    assert (ys[0] + ys[1]) / 2 == pytest.approx(ys[2], abs=0.02)
    mark, name = of_class(root, "joint")
    assert mark.get("x1") == name.get("x") == "50%"
    assert name.text == "sweep 2"


def test_a_share_axis_calls_the_peak_100_percent():
    root = drawn([Line("", (0.0, 2e-5, 1e-5))], share_of=2e-5, from_zero=True)
    ticks = {t.text: float(t.get("y")) for t in of_class(root, "tick") if "%" in (t.text or "")}
    zero, half, whole = (ticks[f"{n}%"] for n in (0, 50, 100))
    assert zero - half == pytest.approx(half - whole, abs=0.02)
    assert [y for _, y in points(of_class(root, "line")[0])] == pytest.approx(
        [zero - 4, whole - 4, half - 4], abs=0.02
    )


def test_a_value_alone_is_a_dot_and_a_gap_lifts_the_pen():
    root = drawn([Line("", (1.0, None, 2.0, 3.0))])
    assert of_class(root, "line")[0].get("d").count("M") == 2
    assert len(points(of_class(root, "line")[0])) == 4


def test_names_at_the_ends_of_lines_never_overlap():
    lines = [Line(f"source {i}", (3.0, 2.0 + i / 1000)) for i in range(5)]
    ends = of_class(drawn(lines), "end")
    ys = sorted(float(e.get("y")) for e in ends)
    assert all(b - a >= 14.9 for a, b in pairwise(ys))
    assert 0 <= ys[0] < ys[-1] <= 240
    assert ["".join(e.itertext()) for e in sorted(ends, key=lambda e: e.get("class"))] == [
        f"{i + 1} source {i}" for i in range(5)
    ]


def test_names_of_joints_have_room_and_epochs_come_first():
    joints = [Joint(i, "epoch 2" if i == 50 else f"sweep {i}") for i in range(1, 100)]
    root = drawn([Line("", tuple(float(i) for i in range(100)))], joints=joints)
    names = [e for e in of_class(root, "joint") if e.tag == "text"]
    places = sorted(float(e.get("x")[:-1]) for e in names)
    assert len(of_class(root, "joint")) - len(names) == 99
    assert "epoch 2" in [e.text for e in names]
    assert len(names) == 4
    assert all(b - a >= 18 for a, b in pairwise(places))


@given(
    st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=30),
    st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=30),
    st.booleans(),
)
def test_any_curve_is_a_well_formed_chart(a, b, from_zero):
    n = min(len(a), len(b))
    if from_zero:
        a, b = ([None if v is None else abs(v) for v in values] for values in (a, b))
    root = drawn(
        [Line("<i>", tuple(a[:n])), Line("b", tuple(b[:n]))], points=a[:n], from_zero=from_zero,
        joints=[Joint(0.5, "<b>")],
    )  # fmt: skip
    if root.get("class") == "nothing":
        assert not [v for v in a[:n] + b[:n] if v is not None]
        return
    values = [v for e in root.iter() for v in e.attrib.values()]
    assert not any(re.search(r"\b(nan|inf)\b", v, re.IGNORECASE) for v in values)
    for line in of_class(root, "line"):
        assert all(0 <= y <= 240 for _, y in points(line))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_tokens_stand_at_the_step_that_reads_them(read):
    amounts = [0.0, *np.cumsum(read).astype(float)]
    edges = list(range(10, 10 + len(amounts)))
    ticks = along(edges, amounts)
    if not amounts[-1]:
        assert ticks == []
        return
    assert ticks[0][0] == pytest.approx(0)
    assert all(b - a >= 0.13 for (a, _), (b, _) in pairwise(ticks))
    for at, text in ticks:
        here = float(np.interp(at * len(read), np.arange(len(amounts)), amounts))
        assert here == pytest.approx(float(text.replace(",", "")), abs=0.51)


# -- the section -----------------------------------------------------------------------------------


def section(case, tmp_path, facts):
    path = tmp_path / "report.html"
    case.write(path, training=facts)
    html = path.read_text("utf-8")
    return html[html.index('<section id="training"') : html.index('<section id="samples"')]


def plain(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_section_says_what_was_trained_and_how(case, tmp_path, made_training):
    c = case(200, arrange={"layers": 3, "batch_size": BATCH, "epochs": 2})
    html = section(c, tmp_path, made_training(c.order, skipped=2))
    text = plain(html)
    assert "14 steps, 98 samples in 2 epochs, on cpu in float32" in text
    assert "Learning rate 0.0002 at its peak, cosine schedule ending at 10% of the peak" in text
    assert "8 samples a step, full weights, weights averaged (0.99)." in text
    assert "Seeds: init not set, draw 3, order 17." in text
    assert "2 samples had no token to learn and were skipped." in text
    assert "executed ÷ foretold FLOPs 1.021" in text
    assert "MFU 21.4% of cpu" in text
    assert "where the parts of the fold order and epochs meet" in text
    assert html.count('role="img"') == 4
    names = re.findall(r'<text class="joint"[^>]*>([^<]*)', html)
    assert "epoch 2" in names


def test_the_numbers_of_the_page_have_a_json_form(case, made_training):
    c = case(200, arrange={"layers": 3, "batch_size": BATCH})
    report = gather(c.subject(training=made_training(c.order)))
    data = json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))
    assert data["sections"]["training"]["last_step"] == 7
    assert "training" not in gather(c.subject()).sections


def test_a_log_from_a_file_is_drawn_the_same(case, tmp_path, made_training):
    c = case(200, arrange={"layers": 3, "batch_size": BATCH})
    facts = made_training(c.order)
    (tmp_path / "steps.jsonl").write_text(step_lines(facts.steps))
    again = TrainingFacts(read_steps(tmp_path), facts.about)
    assert section(c, tmp_path, again) == section(c, tmp_path, facts)


@pytest.mark.slow
def test_a_long_training_makes_a_light_page(case, tmp_path, made_training):
    c = case(200, arrange={"layers": 3, "batch_size": BATCH})
    long = made_training(order_of(200_000))
    html = section(c, tmp_path, long)
    assert len(long.steps) == 25_000
    assert len(html.encode()) < 250_000


def test_foreign_text_in_a_log_is_text(case, tmp_path, made_training):
    bad = "</svg><script>alert(1)</script>\u202e"
    c = case(200, arrange={"layers": 3, "batch_size": BATCH})
    facts = made_training(
        c.order, (bad, bad + "2", "c"), device=bad, dtype=bad, seeds={bad: 1},
        settings={"schedule": bad, "average": {bad: bad}},
    )  # fmt: skip
    html = section(c, tmp_path, facts)
    assert "<script" not in html
    assert "\u202e" not in html
    assert plain(html).count("&lt;script&gt;") > 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"schedule": "constant", "final_rate": 0.0}, "Constant schedule."),
        ({"schedule": "wsd", "final_rate": 0}, "Wsd schedule ending at 0% of the peak."),
        ({"lora_rank": 8}, "LoRA of rank 8."),
        ({"lora_rank": None, "average": None}, "Full weights, weights not averaged."),
        ({"average": "last 5"}, "Weights averaged (last 5)."),
        ({"learning_rate": 2e-5}, "Learning rate 2e-5 at its peak."),
    ],
)
def test_a_recipe_in_a_sentence(settings, said):
    assert recipe(settings) == said
