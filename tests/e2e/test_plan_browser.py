"""The page of a plan in a real browser: its sliders say what the planner says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from didact.accounting.catalog import described
from didact.accounting.counts import stats_from_counts
from didact.accounting.devices import device, rate
from didact.planning.compute_budget import ComputeBudget
from didact.planning.plan import Question, make_plan
from didact.planning.prior import NOTHING_KNOWN
from didact.reporting.plan_otherwise import outcome
from didact.reporting.plan_page import render_plan

pytestmark = pytest.mark.browser

BUDGET, MODEL = 1.5e19, "70B"
METHODS = ("random", "bm25", "compression", "embedding", "perplexity", "ifd", "less")
HOSTILE = "</script><script>window.pwned = 1</script>\"'><img src=x onerror='window.pwned = 2'>"
LONG = "long_name" * 30
# Hundredths of a decade of the budget, eighths of a doubling of the model, tasks.
SETTINGS = [
    (0, 0, 1), (-100, 0, 1), (-60, 0, 1), (-30, 0, 1), (30, 0, 1), (60, 0, 1), (200, 0, 1),
    (0, 0, 10), (-60, 0, 100), (-100, 0, 1000), (-200, 0, 1), (-150, 0, 20),
    (0, -40, 1), (0, -8, 1), (0, 16, 1), (0, 40, 1), (-60, 16, 20), (20, -4, 5), (-200, 40, 1),
]  # fmt: skip

# Moves the sliders to every setting and tells what the page says; then what does not fit.
PROBE = """<script data-probe>
const errors = [];
addEventListener('error', e => errors.push(e.message));
for (const kind of ['error', 'warn']) console[kind] = (...said) => errors.push(said.join(' '));
addEventListener('load', () => {
  const by = id => document.getElementById(id), found = [];
  const tasks = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000];
  for (const [budget, size, n] of SETTINGS) {
    by('slide-budget').value = budget;
    by('slide-size').value = size;
    by('slide-tasks').value = tasks.indexOf(n);
    by('slide-tasks').dispatchEvent(new Event('change', { bubbles: true }));
    const bars = [...document.querySelectorAll('.bill tbody tr')].map(row => [...row.querySelectorAll('.stack i')]
      .reduce((sum, part) => sum + part.getBoundingClientRect().width, 0) / row.querySelector('.stack').getBoundingClientRect().width);
    found.push({
      ...by('outcome').dataset, head: by('outcome-head').textContent, bars: bars,
      names: [...document.querySelectorAll('.bill tbody th')].map(e => e.textContent.trim()),
      taken: [...document.querySelectorAll('.bill tr.taken th')].map(e => e.textContent.trim()),
      cut: document.querySelector('svg.frontier line.cut')?.getAttribute('x1') ?? null,
      said: document.querySelector('svg.frontier')?.getAttribute('aria-label') ?? null,
    });
  }
  for (const d of document.querySelectorAll('details')) d.open = true;
  const root = document.documentElement, width = root.clientWidth;
  const outside = [...document.querySelectorAll('svg text, .bill td, .bill th, h1, .cards dd, #outcome p')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.left < -1 || box.right > width + 1);
  }).map(e => e.textContent);
  const spilt = [...document.querySelectorAll('.bill td, .bill th, .cards dd')].filter(
    e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent);
  const boxes = [...document.querySelectorAll('svg.frontier text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const overlapping = boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 4 && q.top < p.bottom - 4).map(([b]) => a + ' | ' + b));
  parent.postMessage(JSON.stringify({
    found, errors, outside, spilt, overlapping, pwned: window.pwned ?? null, width: root.scrollWidth,
    scripts: document.querySelectorAll('script:not([data-probe])').length, images: document.images.length,
    unnamed: [...document.querySelectorAll('input')].filter(e => !e.labels.length).length,
    live: by('outcome').getAttribute('aria-live'), hidden: by('sliders').hidden,
    paper: getComputedStyle(document.body).backgroundColor,
  }), '*');
});
</script>"""


def question(budget: float = BUDGET, **more: Any) -> Question:
    return Question(
        **{
            "pool": stats_from_counts(300_000, 350), "pool_name": f"pool {HOSTILE} {LONG}",
            "model": described(MODEL), "rate": rate(device("H100")),
            "judges": tuple(described(name) for name in (MODEL, "7B", "150M")),
            "budget": ComputeBudget(f"{budget:g}", budget, budget, budget),
            "encoder": described("gtr-t5-base", encoder=True), "methods": METHODS, **more,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def plan(made_prior) -> dict[str, Any]:
    return make_plan(question(), made_prior).to_json()


def probed(
    browser: Any, values: dict[str, Any], folder: Path, width: int, **more: bool
) -> dict[str, Any]:  # fmt: skip
    """What the probe finds in the page, in a window of that width."""
    probe = PROBE.replace("SETTINGS", json.dumps(SETTINGS))
    return browser.probe(render_plan(values), probe, folder, width, **more)


@pytest.fixture(scope="module")
def found(browser, plan, tmp_path_factory) -> dict[str, Any]:
    return probed(browser, plan, tmp_path_factory.mktemp("plan"), 1280)


@pytest.mark.parametrize("at", range(len(SETTINGS)))
def test_the_sliders_say_what_the_planner_says(plan, found, at):
    (b, s, tasks), said = SETTINGS[at], found["found"][at]
    other = outcome(plan, budget=10 ** (b / 100), size=2 ** (s / 8), tasks=tasks)
    assert said["code"] == (other.code or "")
    assert said["second"] == ("" if other.runner_up is None else _named(other.runner_up))
    if other.row is None:
        assert said["method"] == ""
        return
    assert (said["method"], said["selector"]) == (other.row.method, other.row.selector or "")
    assert float(said["fraction"]) == pytest.approx(other.row.fraction, rel=1e-3)
    if other.row.utility_low is not None:
        assert float(said["low"]) == pytest.approx(other.row.utility_low, abs=1e-3)


@pytest.mark.parametrize("at", [1, 8])
def test_the_sliders_say_what_a_plan_of_their_setting_says(found, made_prior, at):
    (b, _, tasks), said = SETTINGS[at], found["found"][at]
    asked = make_plan(question(BUDGET * 10 ** (b / 100), tasks=tasks), made_prior)
    row = asked.rows[asked.recommended]
    assert (said["code"], said["method"]) == (asked.verdict.code, row.method)
    assert float(said["fraction"]) == pytest.approx(row.fraction, rel=1e-3)
    assert float(said["ratio"]) == pytest.approx(asked.break_even.ratio, rel=1e-3)


def test_settings_lead_to_every_verdict(found):
    codes = {said["code"] for said in found["found"]}
    assert codes == {"select", "random", "all", "unknown", ""}


def test_the_bill_and_the_frontier_follow_the_sliders(found):
    for said in found["found"]:
        if not said["code"]:
            continue
        name = f"{said['method']} by {said['selector']}" if said["selector"] else said["method"]
        assert max(said["bars"]) == pytest.approx(1, abs=0.01)
        assert said["taken"] == [name]
        assert 0 < float(said["cut"].rstrip("%")) < 100
    larger = found["found"][SETTINGS.index((0, 16, 1))]
    assert "perplexity by 280B" in larger["names"]  # what is trained goes by its size
    start, less = found["found"][0], found["found"][1]
    assert "budget of 1.5e19" in start["said"]
    assert "budget of 1.5e18" in less["said"]


def test_nothing_in_the_data_runs(found):
    assert found["errors"] == []
    assert found["pwned"] is None
    assert (found["scripts"], found["images"]) == (2, 0)


def test_sliders_have_names_and_the_answer_is_announced(found):
    assert found["unnamed"] == 0
    assert found["live"] == "polite"
    assert not found["hidden"]


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_the_page_fits(browser, plan, tmp_path, width, dark):
    named = json.loads(json.dumps(plan).replace('"150M"', json.dumps(f"150M {HOSTILE} {LONG}")))
    seen = probed(browser, named, tmp_path, width, dark=dark)
    assert seen["errors"] == []
    assert seen["pwned"] is None
    assert seen["width"] <= width
    assert seen["outside"] == []
    assert seen["spilt"] == []
    assert seen["overlapping"] == []
    paper = sum(map(int, re.findall(r"\d+", seen["paper"])[:3])) / 3
    assert paper < 40 if dark else paper > 240


def test_without_a_prior_the_sliders_still_count(browser, tmp_path):
    values = make_plan(question(), NOTHING_KNOWN).to_json()
    seen = probed(browser, values, tmp_path, 390)
    assert seen["errors"] == []
    for (b, s, tasks), said in zip(SETTINGS, seen["found"], strict=True):
        other = outcome(values, budget=10 ** (b / 100), size=2 ** (s / 8), tasks=tasks)
        assert said["code"] == (other.code or "")
        assert said["cut"] is None
    assert {said["code"] for said in seen["found"]} == {"all", "unknown", ""}


def test_the_policy_lets_the_page_s_own_script_run(browser, plan, tmp_path):
    page = tmp_path / "plan.html"
    page.write_text(render_plan(plan), "utf-8")
    dom = browser.browse(page, tmp_path)
    outcome_tag = re.search(r"<div id=\"outcome\"[^>]*>", dom).group()
    assert 'data-code="select"' in outcome_tag
    taken = plan["rows"][plan["recommended"]]
    fraction = float(re.search(r"data-fraction=\"([^\"]*)\"", outcome_tag).group(1))
    assert math.isclose(fraction, taken["fraction"], rel_tol=1e-3)


def test_without_scripts_there_is_a_table(browser, plan, tmp_path):
    page = tmp_path / "plan.html"
    none = re.sub(r"script-src 'sha256-[^']*'", "script-src 'none'", render_plan(plan))
    page.write_text(none, "utf-8")
    dom = browser.browse(page, tmp_path)
    assert '<div id="sliders" hidden' in dom
    assert re.search(r"<div id=\"outcome\"[^>]*>", dom).group().count("data-") == 0
    table = dom[dom.index('<table id="changes">') :]
    assert (
        table.index("as asked") < table.index("budget 10% of a full pass") < table.index("</table>")
    )


def _named(row: Any) -> str:
    return row.method if row.selector is None else f"{row.method} by {row.selector}"
