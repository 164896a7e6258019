from __future__ import annotations

import dataclasses
import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core.cost import Bill, Cost
from didact.core.manifest import Measured, StageRecord
from didact.reporting import EvaluationFacts
from didact.reporting.report import gather
from didact.reporting.sections.cost import PURPOSES, ledger
from didact.reporting.sections.evaluation import DRAWN, METRICS, evaluation
from didact.reporting.whiskers import Whisker, whiskers


def drawn(rows, **more):
    return ET.fromstring(whiskers(rows, described="d", x_label="x", **more))  # noqa: S314


def of_class(root, name):
    return [e for e in root.iter() if name in e.get("class", "").split()]


def across(element, name):
    return float(element.get(name)[:-1])


# -- whiskers --------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=9
    )
)
def test_dots_lie_in_their_whiskers_and_all_on_one_scale(values):
    rows = [Whisker(str(i), value=v, low=v - a, high=v + b) for i, (v, a, b) in enumerate(values)]
    root = drawn(rows)
    places = [across(e, "cx") for e in of_class(root, "after")]
    bars = [e for e in of_class(root, "whisker") if e.get("y1") == e.get("y2")]
    assert len(places) == len(bars) == len(values)
    assert all(0 <= x <= 100 for x in places)
    for x, bar in zip(places, bars, strict=True):
        assert across(bar, "x1") - 0.011 <= x <= across(bar, "x2") + 0.011
    known = [p for v, a, b in values for p in (v - a, v + b)]
    low, high = min(known), max(known)
    width = max(across(b, "x2") for b in bars) - min(across(b, "x1") for b in bars)
    if high - low > 1e-3:
        for (_, a, b), bar in zip(values, bars, strict=True):
            share = (across(bar, "x2") - across(bar, "x1")) / width if width else 0
            assert share == pytest.approx((a + b) / (high - low), abs=0.01 + 0.1 / max(width, 1))


def test_chance_is_marked_and_shares_stay_shares():
    rows = [Whisker("a", value=0.99, low=0.97, high=1.0, shown="99.0%", chance=0.25)]
    root = drawn(rows, shares=True)
    (mark,) = of_class(root, "chance")
    assert across(mark, "x1") < across(of_class(root, "after")[0], "cx")
    ticks = [float(t.text[:-1]) for t in of_class(root, "tick")]
    assert max(ticks) <= 100
    assert across(of_class(root, "whisker")[0], "x2") == 100


def test_a_value_without_an_interval_is_a_dot_alone():
    root = drawn([Whisker("file"), Whisker("task", inner=True, value=2.0, shown="2")])
    assert not of_class(root, "whisker")
    assert [e.text for e in of_class(root, "row")] == ["file", "task"]
    assert len(of_class(root, "head")) == len(of_class(root, "inner")) == 1
    assert "Nothing to draw" in whiskers([Whisker("a")], described="d", x_label="x")


# -- values ----------------------------------------------------------------------------------------


def test_every_record_is_there_and_chance_stands_at_its_accuracy(made_evaluation):
    facts = made_evaluation(("a/base", "b/base"))
    found = evaluation(facts)
    told = [r for r in facts.records if r["metric"] != "chance"]
    assert [
        (r.file, r.task, r.source, r.metric, r.value, r.low, r.high) for r in found.readings
    ] == [
        tuple(r[k] for k in ("file", "task", "source", "metric", "value", "low", "high"))
        for r in told
    ]
    assert found.models == ("a/base", "b/base")  # the last part alone would name both
    chance = {r["task"]: r["value"] for r in facts.records if r["metric"] == "chance"}
    for reading in found.readings:
        expected = chance[reading.task] if "accuracy" in reading.metric else None
        assert reading.chance == expected


def test_chance_in_the_record_itself_counts():
    record = {"file": "f", "metric": "accuracy", "value": 0.5, "chance": 0.25, "n": 3}
    assert evaluation(EvaluationFacts((record,))).readings[0].chance == 0.25
    assert evaluation(EvaluationFacts(())) is None


def test_what_is_no_number_is_a_dash(case, tmp_path):
    record = {"file": "f", "metric": "bits_per_byte", "value": float("nan"), "low": None, "n": "x"}
    found = evaluation(EvaluationFacts((record,)))
    assert (found.readings[0].value, found.readings[0].n) == (None, None)
    text = plain(section(case(40), tmp_path, EvaluationFacts((record,))))
    assert "Nothing to draw" in text
    assert "Without intervals" in text


# -- the section -----------------------------------------------------------------------------------


def section(c, tmp_path, facts, stages=()):
    path = tmp_path / "report.html"
    c.write(path, evaluation=facts, stages=stages)
    html = path.read_text("utf-8")
    after = "cost" if stages else "samples"
    return html[html.index('<section id="evaluation"') : html.index(f'<section id="{after}"')]


def plain(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_section_shows_each_metric_with_its_numbers(case, tmp_path, made_evaluation):
    html = section(case(40), tmp_path, made_evaluation())
    text = plain(html)
    assert html.count('role="img"') == len(METRICS)
    titles = re.findall(r'<h3><span class="user">([^<]*)', html)
    assert titles == [metric.title for metric in METRICS.values()]
    assert "heldout.jsonl: 3 of 250 rows are rows of the training set" in text
    assert "Two runs that differ in their seeds alone differ by more than that." in text
    assert "heldout.jsonl all Bits per byte of the answers 2.810 2.750 to 2.870 250 samples" in text
    assert (
        "commonsense_qa.jsonl date understanding Accuracy 28.0% 23.0% to 33.0% 25.0% 300 samples"
    ) in text
    assert "heldout.jsonl all web Bits per byte of the answers 2.810 2.700 to 2.920" in text
    labels = re.findall(r'aria-label="([^"]*)"', html)
    assert "Accuracy, higher is better: commonsense_qa.jsonl 31.0%; commonsense_qa 34.0%" in (
        next(label for label in labels if label.startswith("Accuracy,"))
    )


def test_intervals_over_runs_say_so(case, tmp_path, made_evaluation):
    text = plain(section(case(40), tmp_path, made_evaluation(unit="runs")))
    assert "take the run as their unit" in text
    assert "Two runs that differ" not in text


def test_models_stand_side_by_side(case, tmp_path, made_evaluation):
    html = section(case(40), tmp_path, made_evaluation(("base", "out/model")))
    rows = re.findall(r'class="row[^"]*"[^>]*>([^<]*)', html)
    assert rows[:6] == ["heldout.jsonl", "base", "model", "gsm8k.jsonl", "base", "model"]
    assert "Models: base, model" in plain(html)


def test_more_rows_than_a_chart_holds_are_in_the_table(case, tmp_path):
    records = tuple(
        {"file": f"f{i}", "metric": "odd", "value": i, "low": i - 1, "high": i + 1, "n": 9,
         "unit": "samples", "higher_is_better": True}
        for i in range(DRAWN + 5)
    )  # fmt: skip
    html = section(case(40), tmp_path, EvaluationFacts(records))
    assert "5 more rows are in the table." in plain(html)
    assert html.count('class="row"') == DRAWN
    assert html.count("<tr>") == DRAWN + 6
    assert "odd (higher is better)" in plain(html)


def test_foreign_text_in_records_is_text(case, tmp_path, made_evaluation):
    bad = "</svg><script>alert(1)</script>\u202e"
    facts = made_evaluation((bad,), files=(bad + "1", bad + "2", bad + "3"), notes=(bad,))
    odd = {**facts.records[0], "metric": bad, "task": bad, "source": bad, "unit": bad}
    more = {**facts.records[0], "metric": bad, "task": bad, "unit": bad}
    html = section(case(40), tmp_path, EvaluationFacts((*facts.records, odd, more), facts.notes))
    assert "<script" not in html
    assert "\u202e" not in html
    assert html.count("&lt;script&gt;") > 20


def test_the_numbers_of_the_page_have_a_json_form(case, made_evaluation):
    report = gather(case(40).subject(evaluation=made_evaluation()))
    data = json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))
    assert len(data["sections"]["evaluation"]["readings"]) == 2 * 2 * 3 + 3 * 5
    assert "those of models" in data["header"]["notices"][0]["text"]


# -- the ledger ------------------------------------------------------------------------------------


def stage(name, flops=0.0, *, cpu=1.0, tokens=0, device=0.0, uses=None):
    own = Cost(flops, tokens, cpu, device)
    return StageRecord(name, "a" * 32, {}, measured=Measured(Bill(Cost(), own, uses or {})))


NAMES = ["data", "score", "order_score", "select", "order", "export", "train", "evaluate"]
costs = st.builds(
    Cost, st.integers(0, 10**6).map(float), st.integers(0, 99), st.integers(0, 999).map(float),
    st.integers(0, 999).map(float),
)  # fmt: skip


@given(st.data())
def test_the_lines_of_the_ledger_add_up_to_the_whole(data):
    kept = {f"k{i}": data.draw(costs) for i in range(3)}
    stages = [
        StageRecord(
            name, "a" * 32, {},
            measured=Measured(
                Bill(own=data.draw(costs), uses={k: kept[k] for k in data.draw(st.sets(st.sampled_from(sorted(kept))))})
            ),
        )
        for name in data.draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]  # fmt: skip
    lines = ledger(stages)
    whole = sum((s.measured.bill for s in stages), Bill()).value
    for quantity in ("flops", "tokens", "cpu_seconds", "device_seconds"):
        summed = sum(getattr(line.value, quantity) for line in lines)
        assert summed == pytest.approx(getattr(whole, quantity), abs=1e-6)
    if whole.flops:
        assert sum(line.share for line in lines) == pytest.approx(1)
    assert [line.name for line in lines] == [n for n in PURPOSES if n in {x.name for x in lines}]


def cost_section(c, tmp_path, stages):
    path = tmp_path / "report.html"
    c.write(path, stages=stages)
    html = path.read_text("utf-8")
    return html[html.index('<section id="cost"') : html.index('<section id="samples"')]


def test_the_ledger_says_what_choosing_cost_beside_training(case, tmp_path):
    shared = {"sketches/x": Cost(flops=1e12, tokens=10)}
    stages = [
        stage("data"), stage("score", 3e12, tokens=50, uses=shared), stage("select", uses=shared),
        stage("train", 1e14, tokens=700, device=9.0), stage("evaluate", 2e12),
    ]  # fmt: skip
    html = cost_section(case(40), tmp_path, stages)
    text = plain(html)
    assert "Choosing cost 4.0% of the training FLOPs, evaluating 2.0%." in text
    assert "scoring 4T 3.8% 60 – 1.00 s" in text
    assert "selection – 0% – – 1.00 s" in text
    assert "training 100T 94.3% 700 9.00 s 1.00 s" in text
    assert "all else – 0%" in text
    assert "in all 106T 100% 760 9.00 s 5.00 s" in text
    assert text.index("One ledger") < text.index("By stage")


def test_choosing_without_a_model_says_what_it_took(case, tmp_path):
    stages = [stage("score", cpu=12.0), stage("select"), stage("train", 1e14)]
    text = plain(cost_section(case(40), tmp_path, stages))
    assert "Choosing cost 0% of the training FLOPs (13.0 s of processor time alone)." in text


def test_without_a_training_there_is_no_ledger(case, tmp_path):
    html = cost_section(case(40), tmp_path, [stage("score", 1e9), stage("select")])
    assert "One ledger" not in html
    only = cost_section(case(40, folder="two"), tmp_path, [stage("evaluate", 1e9)])
    assert "One ledger" in only
    assert "Choosing cost" not in only
