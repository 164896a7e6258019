"""The report in a real browser: nothing in the data runs, nothing runs off the page or collides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from didact import pipeline, verbs
from didact.analysis.entropy.law import entropy_law
from didact.analysis.entropy.runs import LawRun
from didact.core.budget import Budget
from didact.core.cost import Bill, Cost
from didact.core.manifest import Measured, StageRecord
from didact.core.scores import Scores
from didact.reporting import Subject, write_report
from didact.reporting.law_page import render_law
from didact.testing import make_pool

pytestmark = pytest.mark.browser

LAYERS = 4

HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 2'><svg onload='window.pwned = 3'>",
    "</textarea></title></style></pre></div></main></body></html><h1 id=injected>x</h1>",
    "\"'><a href='javascript:window.pwned=4' id=injected>click</a>",
    "before \u202eoverride \u2066isolate \u2067never closed",
    "nul \0 escape \x1b[31m bell \x07 delete \x7f next line \x85 bom \ufeff",
    "a line " + "x" * 1_000_000,
    "wide " + "漢" * 3000,
    "emoji 👩‍👩‍👧‍👦🏳️‍🌈 " * 50,
    "שלום עולם مرحبا بالعالم " * 20,
    "e" + "\u0301" * 500,
    "\n" * 400 + "after many lines",
    "&lt;script&gt; &amp;amp; &#60;b&#62; {{ 7*7 }} {% raw %} <!-- ]]> -->",
]

# Opens everything that is folded, then measures.
PROBE = """<script>
// Pairs of letters that lie on each other in one chart.
const overlapping = charts => [...document.querySelectorAll(charts)].flatMap(chart => {
  const boxes = [...chart.querySelectorAll('text')].map(
    t => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 4 && q.top < p.bottom - 4
  ).map(([b]) => a + ' | ' + b));
});
addEventListener('load', () => {
  for (const d of document.querySelectorAll('details')) d.open = true;
  const root = document.documentElement, width = root.clientWidth;
  const cut = [...document.querySelectorAll('svg text')].filter(t => {
    const b = t.getBoundingClientRect(), plot = t.closest('.plot').getBoundingClientRect();
    return b.width && (b.left < plot.left - 1 || b.right > Math.min(plot.right, width) + 1);
  }).map(t => t.textContent);
  const message = {
    pwned: window.pwned ?? null,
    injected: document.querySelectorAll('#injected, img, script').length - 2,
    handlers: [...document.querySelectorAll('*')].filter(
      e => [...e.attributes].some(a => a.name.startsWith('on'))).length,
    scrollWidth: root.scrollWidth, innerWidth: innerWidth, cut: cut,
    paper: getComputedStyle(document.body).backgroundColor,
    overlapping: overlapping('svg.chart'),
    sections: document.querySelectorAll('section').length,
  };
  parent.postMessage(JSON.stringify(message), '*');
});
</script>"""


def measure(browser: Any, report: Path, folder: Path, width: int, **more: bool) -> dict[str, Any]:
    """What the probe finds in a copy of the report, in a window of that width."""
    return browser.probe(report.read_text("utf-8"), PROBE, folder, width, **more)


@pytest.fixture(scope="module")
def hostile_report(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run over data that tries to break it."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [
        {
            "id": f"{i} {HOSTILE[i % 5]}",
            "messages": [
                {"role": HOSTILE[i % 4], "content": f"{i} {HOSTILE[i % len(HOSTILE)]}"},
                {"role": "assistant", "content": HOSTILE[(i * 5 + 2) % 6] + "y" * (i % 29)},
            ],
            "source": f"{HOSTILE[i % 6]} {i % 24} " + "long_name" * (i % 3 * 20),
        }
        for i in range(240)
    ]
    (folder / "pool.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    config = {
        "data": {"path": str(folder / "pool.jsonl")},
        "score": {"method": "length"},
        "select": {"method": "top_k", "budget": {"ratio": 0.8}},
        "order": {"method": "fold", "layers": LAYERS},
    }
    pipeline.run(config, folder / "out", cache_dir=folder / "cache")
    return folder / "out" / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_data_neither_runs_nor_breaks_the_page(browser, hostile_report, tmp_path, width):
    found = measure(browser, hostile_report, tmp_path, width)
    assert found["pwned"] is None
    assert found["injected"] == 0
    assert found["handlers"] == 0
    assert found["innerWidth"] == width
    assert found["scrollWidth"] <= width
    assert found["cut"] == []
    assert found["overlapping"] == []
    assert found["sections"] == 9


@pytest.fixture(scope="module")
def trained_report(
    browser: Any,
    tmp_path_factory: pytest.TempPathFactory,
    made_training: Any,
    made_evaluation: Any,
) -> Path:
    """The report of a run with a training and its evaluation, with names that try to break it."""
    folder = tmp_path_factory.mktemp("trained")
    pool = make_pool(
        [{"id": str(i), "text": f"text {i} " * (i % 9 + 1)} for i in range(1200)], folder
    )
    ctx = verbs.context(7, 1, folder / "cache")
    scores = Scores(np.arange(1200.0), True, "made_up", pool.fingerprint)
    chosen = verbs.select(pool, scores, "top_k", budget=Budget(ratio=1.0), ctx=ctx)
    order = verbs.order(pool, chosen, scores, "fold", ctx=ctx, layers=3, batch_size=8, epochs=2)
    names = (*(f"{bad[:200]} {i}" for i, bad in enumerate(HOSTILE[:6])), "long_name" * 30, "last")
    cost = Measured(Bill(own=Cost(flops=1.23e21, tokens=10**12, cpu_seconds=1e6)))
    facts = made_evaluation(
        ("a/" + "base" * 40, "b/model"), notes=tuple(HOSTILE[:6]),
        files=tuple(f"{'file' * 30}{bad[:60]}" for bad in HOSTILE[:3]),
    )  # fmt: skip
    write_report(
        folder / "report.html",
        Subject(
            pool=pool, scores=scores, selection=chosen, order=order, ctx=ctx,
            training=made_training(order, names, skipped=2, device=HOSTILE[1]), evaluation=facts,
            stages=[StageRecord(n, "a" * 32, {}, measured=cost) for n in ("score", "train")],
        ),
    )  # fmt: skip
    return folder / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_training_and_its_evaluation_fit_the_page(browser, trained_report, tmp_path, width, dark):
    found = measure(browser, trained_report, tmp_path, width, dark=dark)
    assert found["pwned"] is None
    assert found["injected"] == 0
    assert found["handlers"] == 0
    assert found["scrollWidth"] <= width
    assert found["cut"] == []
    assert found["overlapping"] == []
    assert found["sections"] == 11


def test_names_in_the_plots_of_the_law_leave_each_other_room(browser, tmp_path):
    rng = np.random.default_rng(3)
    runs = [
        LawRun(
            run=f"{i}", set=f"a set of samples with a long name, seed {i}", family=f"f{i % 5}",
            ratio=(ratio := rng.uniform(1.5, 3)), first_epoch_loss=rng.uniform(2, 3),
            performance=-0.3 * ratio + 0.01 * rng.normal() - 0.4 * (i % 5 == 0),
            mean_length=rng.uniform(50, 200), similarity=rng.uniform(),
        )
        for i in range(24)
    ]  # fmt: skip
    page = render_law(entropy_law(runs).to_json())
    assert page.count('class="tick mark"') >= 4
    found = browser.probe(page, PROBE, tmp_path, 390)
    assert (found["scrollWidth"] <= 390, found["cut"], found["overlapping"]) == (True, [], [])


def test_the_page_follows_the_reader_s_color_scheme(browser, hostile_report, tmp_path):
    papers = []
    for dark in (False, True):
        paper = str(measure(browser, hostile_report, tmp_path, 800, dark=dark)["paper"])
        papers.append(sum(map(int, re.findall(r"\d+", paper)[:3])) / 3)
    light, dark = papers
    assert light > 240
    assert dark < 40


def test_a_browser_runs_the_page_s_own_script_alone(browser, hostile_report, tmp_path):
    dom = browser.browse(hostile_report, tmp_path)
    assert dom.count("<script") == 1
    assert 'id="injected"' not in dom
    assert "192 of 240 samples chosen" in dom


# Works the table of samples as a person at a keyboard does, and tells what is seen after each step.
TYPIST = """<script>
addEventListener('load', () => {
  const section = document.getElementById('browse'), found = {};
  const field = name => document.getElementById('browse-' + name);
  const rows = () => [...section.querySelectorAll('tbody tr')].filter(row => !row.hidden);
  const seen = () => rows().map(row => row.querySelector('.id').textContent);
  const at = () => document.activeElement.closest('#browse tbody tr')?.querySelector('.id')
    .textContent ?? document.activeElement.id;
  const press = key => document.activeElement.dispatchEvent(
    new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  const set = (name, value) => {
    field(name).value = value;
    field(name).dispatchEvent(new Event('input', { bubbles: true }));
  };
  found.all = seen();
  found.walked = ['j', 'j', 'ArrowDown', 'k', 'ArrowUp', 'k'].map(key => (press(key), at()));
  const details = document.activeElement.parentElement;
  details.open = true;
  press('Escape');
  found.closed = !details.open;
  press('/');
  found.slash = at();
  press('j');  // a letter in the field is a letter
  found.typing = at();
  set('search', 'ROW  number-7');
  found.searched = seen();
  found.status = document.getElementById('browse-found').textContent;
  press('ArrowDown');
  found.entered = at();
  press('Escape');
  found.back = at();
  press('Escape');
  found.emptied = [field('search').value, seen().length];
  set('source', '1');
  found.source = rows().map(row => row.querySelector('.of').textContent);
  set('source', '');
  set('why', 'out');
  found.out = seen();
  set('why', '');
  set('low', '50');
  set('high', '52');
  found.scores = seen();
  set('low', '');
  set('high', '');
  set('sort', 'cut');
  found.nearest = seen().slice(0, 3);
  set('sort', 'position');
  found.first = seen()[0];
  document.activeElement.blur();
  field('keys').checked = false;
  press('j');
  found.off = at();
  field('keys').checked = true;
  press('j');
  found.on = at();
  found.labels = [...section.querySelectorAll('input, select')].every(e => e.labels.length);
  found.role = field('found').getAttribute('role');
  parent.postMessage(JSON.stringify(found), '*');
});
</script>"""


def test_samples_are_browsed_by_keys_and_filters(browser, tmp_path):
    rows = [{"id": f"id-{i}", "text": f"row number-{i}!", "source": f"s{i % 3}"} for i in range(60)]
    pool = make_pool(rows, tmp_path / "pool")
    ctx = verbs.context(7, 1, tmp_path / "cache")
    scores = Scores(np.arange(60.0), True, "made_up", pool.fingerprint)
    chosen = verbs.select(pool, scores, "top_k", budget=Budget(samples=20), ctx=ctx)
    order = verbs.order(pool, chosen, scores, "sort", ctx=ctx)
    path = tmp_path / "report.html"
    write_report(path, Subject(pool=pool, scores=scores, selection=chosen, order=order, ctx=ctx))
    found = browser.probe(path.read_text("utf-8"), TYPIST, tmp_path, 1280)
    best_first = [f"id-{i}" for i in reversed(range(60))]
    assert found["all"] == best_first
    assert found["walked"] == ["id-59", "id-58", "id-57", "id-58", "id-59", "id-59"]
    assert found["closed"]
    assert found["slash"] == found["typing"] == "browse-search"
    assert found["searched"] == ["id-7"]  # of the words, each anywhere; not in number-17
    assert found["status"] == "1 of 60 rows fit"
    assert found["entered"] == "id-7"
    assert found["back"] == "browse-search"
    assert found["emptied"] == ["", 60]
    assert set(found["source"]) == {"s1"}
    assert found["out"] == best_first[20:]
    assert found["scores"] == ["id-52", "id-51", "id-50"]
    assert found["nearest"] == ["id-40", "id-41", "id-39"]
    assert found["first"] == "id-40"  # sorted: the least preferred is read first
    assert (found["off"], found["on"]) == ("", "id-40")
    assert found["labels"]
    assert found["role"] == "status"


def test_a_fold_looks_like_a_fold(browser, tmp_path):
    rows = [{"text": "word " * (i % 997 + 1) + str(i), "id": str(i)} for i in range(4000)]
    pool = tmp_path / "pool.jsonl"
    pool.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    config = {
        "data": {"path": str(pool)},
        "score": {"method": "length"},
        "select": {"method": "top_k", "budget": {"ratio": 0.5}},
        "order": {"method": "fold", "layers": LAYERS},
    }
    pipeline.run(config, tmp_path / "out", cache_dir=tmp_path / "cache")
    dom = browser.browse(tmp_path / "out" / "report.html", tmp_path)
    section = dom[dom.index('id="order"') :]
    line = re.search(r'<path class="mean" d="([^"]*)"', section).group(1)
    points = [tuple(map(float, p.split())) for p in re.split("[ML]", line) if p]
    heights = [210 - y for _, y in points]  # pixels, upwards
    high, low = max(heights), min(heights)
    # A sweep ends where the line falls by most of its range at once, and begins at the bottom.
    falls = [i for i in range(1, len(heights)) if heights[i - 1] - heights[i] > 0.8 * (high - low)]
    assert len(falls) == LAYERS - 1
    for begin, end in zip([0, *falls], [*falls, len(heights)], strict=True):
        sweep = heights[begin:end]
        assert sweep == sorted(sweep)
        assert sweep[0] < low + 0.1 * (high - low)
        assert sweep[-1] > high - 0.1 * (high - low)
    joints = [float(x) for x in re.findall(r'class="joint" x1="([\d.]+)%"', section)]
    assert joints[: LAYERS - 1] == [25, 50, 75]
