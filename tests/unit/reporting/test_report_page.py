from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.cost import Bill, Cost
from didact.core.manifest import Measured, StageRecord
from didact.reporting import page
from didact.reporting.sections.samples import Sample, Turn, preview

CSS = (Path(page.__file__).parent / "templates" / "report.css").read_text("utf-8")
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;</textarea>\0\u202e{{ 7*7 }}"
)
VOID = {"meta", "input"}
SCRIPT = (Path(page.__file__).parent / "templates" / "browse.js").read_text("utf-8")


class Page(HTMLParser):
    """The tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.texts, self.scripts = [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def written(case, tmp_path, **more) -> str:
    path = tmp_path / "report.html"
    case.write(path, **more)
    return path.read_text("utf-8")


SHARED = {"sketches/x": Cost(cpu_seconds=1.0)}  # a kept value that two stages stand on
STAGES = [
    StageRecord(
        "data", "a" * 32, {}, facts={"codec": "zlib"}, outputs={"x.jsonl": "b" * 32},
        estimated=Cost(cpu_seconds=3.0),
        measured=Measured(
            Bill(charged=Cost(cpu_seconds=0.25), own=Cost(cpu_seconds=4.5)), 5.5, 2**30, reused=True
        ),
    ),
    StageRecord(
        "score", "c" * 32, {}, estimated=Cost(cpu_seconds=1.5),
        measured=Measured(
            Bill(Cost(cpu_seconds=2.25), Cost(cpu_seconds=1.25), SHARED), 1.25, 300 * 2**20
        ),
    ),
    StageRecord(
        "select", "d" * 32, {},
        measured=Measured(
            Bill(Cost(cpu_seconds=0.5), Cost(cpu_seconds=0.5), SHARED), 0.75, 200 * 2**20
        ),
    ),
]  # fmt: skip


# -- the file --------------------------------------------------------------------------------------


def test_equal_values_give_equal_bytes(case, tmp_path):
    c = case(120)
    one = written(c, tmp_path, stages=STAGES, config={"seed": 7})
    two = written(c, tmp_path, stages=STAGES, config={"seed": 7})
    assert one == two


def test_the_file_is_alone_and_runs_its_own_script_only(case, tmp_path):
    html = written(
        case(120), tmp_path, stages=STAGES, output_files=["train.jsonl", "/data/a b?.jsonl"]
    )
    found = Page(html)
    assert not found.open
    assert not {"link", "iframe", "img", "object"} & set(found.tags)
    assert found.scripts == [f"\n{SCRIPT}\n"]
    assert not {n for t, n, _ in found.attributes if t in {"script", "form"}} & {"src", "action"}
    assert not re.search(r"https?:|@import|url\(", html)
    links = {value for _, name, value in found.attributes if name in {"href", "src"}}
    assert {"./train.jsonl", "file:///data/a%20b%3F.jsonl"} < links
    assert all(link.startswith(("#", "./", "file:///")) for link in links)
    policy = next(v for t, n, v in found.attributes if n == "content" and "default-src" in v)
    digest = base64.b64encode(hashlib.sha256(found.scripts[0].encode()).digest()).decode()
    inline = "default-src 'none'; style-src 'unsafe-inline'"
    assert policy == f"{inline}; script-src 'sha256-{digest}'"
    without = Page(written(case(20, folder="other"), tmp_path, samples=False))
    assert not {"script", "form"} & set(without.tags)
    assert inline in {value for _, name, value in without.attributes if name == "content"}


def test_every_section_and_every_link_to_it_is_there(case, tmp_path):
    found = Page(written(case(120), tmp_path, stages=STAGES))
    ids = [value for tag, name, value in found.attributes if tag == "section" and name == "id"]
    assert ids == [
        "sources",
        "lengths",
        "scores",
        "redundancy",
        "order",
        "cost",
        "samples",
        "browse",
        "settings",
    ]
    assert [v[1:] for _, n, v in found.attributes if n == "href" and v[0] == "#"] == ids
    charts = [v for t, n, v in found.attributes if t == "svg" and n == "aria-label"]
    assert len(charts) == len(set(charts)) == 7


def test_a_file_that_cannot_be_made_leaves_the_old_one(case, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(page, "render", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        case(30).write(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["report.html"]


# -- hostile text ----------------------------------------------------------------------------------


def hostile_rows(n=40):
    return [
        {
            "id": f"{HOSTILE}{i}",
            "messages": [
                {"role": HOSTILE, "content": f"{i} {HOSTILE} {'x' * 5000}"},
                {"role": "assistant", "content": HOSTILE * (i % 3 + 1)},
            ],
            "source": f"{i % 2}{HOSTILE}",
        }
        for i in range(n)
    ]


def test_user_text_is_escaped_wherever_it_stands(case, tmp_path):
    c = case(hostile_rows(), missing={0: HOSTILE})
    c = dataclasses.replace(
        c,
        scores=dataclasses.replace(c.scores, method=HOSTILE, settings={HOSTILE: HOSTILE}),
        selection=dataclasses.replace(
            c.selection, method=HOSTILE, settings={HOSTILE: HOSTILE, "budget": HOSTILE},
            reasons=(HOSTILE,), notes=(HOSTILE,),
        ),
        order=dataclasses.replace(c.order, method=HOSTILE, settings={HOSTILE: [HOSTILE]}),
    )  # fmt: skip
    stage = StageRecord(
        HOSTILE,
        HOSTILE,
        {},
        notes=(HOSTILE + "!",),
        facts={HOSTILE: HOSTILE},
        outputs={HOSTILE: HOSTILE},
    )
    html = written(
        c, tmp_path, stages=[stage], config={HOSTILE: [HOSTILE]}, environment={HOSTILE: HOSTILE},
        output_files=[HOSTILE, "javascript:alert(1)"],
    )  # fmt: skip
    plain = Page(written(case(hostile_rows(), folder="plain"), tmp_path))
    found = Page(html)
    assert set(found.tags) <= set(plain.tags) | {"a", "ul", "li", "tfoot"}
    assert found.tags.count("script") == 1
    assert not {"img", "textarea"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert "\0" not in html
    assert "\u202e" not in html
    assert "49" not in re.sub(r"\d{3,}|[\d.,]+%?", "", found.text)  # a template in the data is text
    assert "{{ 7*7 }}" in found.text
    links = [v for t, n, v in found.attributes if t == "a" and n == "href" and v[0] != "#"]
    assert links[1] == "./javascript%3Aalert%281%29"
    # Each of these stood in a place of its own and is there to be read.
    assert found.text.count("<script>alert(1)</script>") > 30


def test_long_data_gives_a_small_page(case, tmp_path):
    rows = [
        {
            "id": f"{i}" + "i" * 10_000,
            "text": f"{i} " + "word " * 100_000,
            "source": f"{i}" + "s" * 50_000,
        }
        for i in range(12)
    ]
    html = written(case(rows), tmp_path, config={"x": "y" * 100_000})
    assert len(html.encode()) < 300_000
    assert "i" * 200 not in html
    assert "s" * 200 not in html


def test_without_samples_no_text_and_no_id_is_in_the_page_or_its_numbers(case, tmp_path):
    rows = [
        {"id": f"secret-{i}", "text": f"confidential {i} " * 9, "source": f"s{i % 3}"}
        for i in range(60)
    ]
    c = case(rows, missing={1: "too short"})
    path = tmp_path / "report.html"
    for samples in (True, False):
        report = c.write(path, samples=samples)
        html, numbers = path.read_text(), json.dumps(dataclasses.asdict(report))
        for secret, where in product(("secret-", "confidential"), (html, numbers)):
            assert (secret in where) == samples
    assert "made without samples" in html


# -- what it says ----------------------------------------------------------------------------------


def test_the_headline_says_what_was_chosen_how_and_where_it_is(case, tmp_path):
    c = case(200, budget=Budget(samples=50), arrange={"layers": 3, "batch_size": 8, "epochs": 2})
    text = Page(written(c, tmp_path, output_files=["train.jsonl"])).text
    assert "50 of 200 samples chosen" in text
    assert "25.0% of 200" in text
    assert "Chosen by top_k" in text
    assert "made_up (a=1) scores, higher is preferred, budget samples=50" in text
    assert re.search(
        r"To be read in fold \(layers=3[^)]*\) order, 2 epochs, 13 steps of 8 samples", text
    )
    assert "Written to train.jsonl" in text


def test_an_estimate_is_called_one_wherever_tokens_are_counted(case, tmp_path):
    c = case(120)
    text = Page(written(c, tmp_path, stages=STAGES)).text
    counted = [m.end() for m in re.finditer(r"\btokens( per sample)?\b", text)]
    assert len(counted) > 10
    for end in counted:
        assert text[end:].startswith(" (estimate)"), text[end - 60 : end + 30]
    exact = c.pool.meta
    exact["token_counter"] = {"name": "tokenizer.json", "estimate": False}
    text = Page(written(c, tmp_path, stages=STAGES)).text
    assert "estimate)" not in text
    assert "≈" not in text
    assert "tokens" in text


def test_costs_add_up_and_what_is_shared_counts_once(case, tmp_path):
    html = written(case(60), tmp_path, stages=STAGES)
    rows = re.findall(
        r"<tr[^>]*><th scope=\"row\">(.*?)</tr>",
        html[html.index('id="cost"') : html.index('id="samples"')],
        re.DOTALL,
    )
    cells = [re.sub(r"<[^>]+>", "|", r).split("|") for r in rows]
    found = {r[0].strip(): [c for c in r[1:] if c.strip()] for r in cells}
    # estimated, from nothing, this run, elapsed, memory
    assert found["data"] == ["reused", "3.00 s", "4.50 s", "0.25 s", "5.50 s", "1.00 GiB"]
    assert found["score"] == ["1.50 s", "2.25 s", "2.25 s", "1.25 s", "300 MiB"]
    assert found["select"] == ["\u2013", "1.50 s", "0.50 s", "0.75 s", "200 MiB"]
    assert found["in all"] == ["4.50 s", "7.25 s", "3.00 s", "7.50 s", "1.00 GiB"]
    assert "FLOPs" not in html


def test_models_get_columns_of_their_own(case, tmp_path):
    stage = StageRecord(
        "score",
        "a" * 32,
        {},
        estimated=Cost(flops=2e15),
        measured=Measured(
            Bill(Cost(flops=1e15, device_seconds=60), Cost(flops=1.5e15, device_seconds=90))
        ),
    )
    text = Page(written(case(60), tmp_path, stages=[stage])).text
    assert "model FLOPs" in text
    assert "2000T 1500T 1000T 1 min 30 s" in text.replace(",", "")


def test_a_choice_that_is_no_cut_says_so(case, tmp_path):
    c = case(200, values=[i / 1000 for i in range(200)])
    rows = np.arange(0, 200, 4)  # of every score a few, as random and per-source choices take them
    selection = dataclasses.replace(c.selection, rows=rows, rank=None, why=None)
    order = dataclasses.replace(c.order, rows=rows)
    found = written(dataclasses.replace(c, selection=selection, order=order), tmp_path)
    assert "no plain cut by this score" in Page(found).text
    assert 'class="cut"' not in found
    assert 'class="cut"' in written(c, tmp_path)


def test_everything_chosen_nothing_cut(case, tmp_path):
    rows = [{"text": f"text {i}", "id": str(i)} for i in range(20)]
    text = Page(written(case(rows, budget=Budget(ratio=1.0)), tmp_path)).text
    assert "20 of 20 samples chosen" in text
    assert "every candidate was chosen" in text


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_tiny_runs_have_a_report(case, tmp_path, rows):
    text = Page(written(case(rows, budget=Budget(samples=1), order="sort"), tmp_path)).text
    assert f"1 of {rows} samples chosen" in text
    assert "So little text makes this a rough comparison." in text


def test_an_empty_choice_has_a_report(case, tmp_path):
    text = Page(written(case(30, budget=Budget(samples=0), order="sort"), tmp_path)).text
    assert "0 of 30 samples chosen" in text
    assert "Nothing was chosen." in text


def test_a_run_without_scores_has_a_report(case, without_scores, tmp_path):
    found = Page(written(without_scores(case(60)), tmp_path))
    assert "No score was used" in found.text
    assert "scores" not in {v for _, n, v in found.attributes if n == "id"}


def test_settings_are_shown_as_the_config_file_writes_them(case, tmp_path):
    html = written(
        case(30), tmp_path, config={"seed": 7, "data": {"path": Path("pool.jsonl")}, "score": None}
    )
    assert "seed: 7\ndata:\n  path: pool.jsonl\nscore: null\n" in html


# -- pieces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "seen", "folded"),
    [
        ([100], [100], []),
        ([490], [490], []),  # a rest of a few words is not worth a click
        ([2000], [420], [1580]),
        ([300, 300], [300, 120], [180]),
        ([300, 150, 150], [300, 150], [150]),
        ([420, 10], [420], [10]),
        ([], [], []),
    ],
)
def test_a_preview_loses_nothing(lengths, seen, folded):
    turns = tuple(Turn(f"r{i}", "x" * n) for i, n in enumerate(lengths))
    sample = Sample(0, "", "", None, None, 0, None, "", turns, sum(lengths), sum(lengths))
    head, tail = preview(sample)
    assert [len(t.text) for t in head] == seen
    assert [len(t.text) for t in tail] == folded
    assert "".join(t.text for t in head + tail) == "".join(t.text for t in turns)


def test_what_is_left_out_of_a_text_is_counted(case, tmp_path):
    rows = [{"id": str(i), "text": "One sentence here. " * 200 + str(i)} for i in range(8)]
    text = Page(written(case(rows, budget=Budget(samples=2)), tmp_path)).text
    # a sentence has 19 characters: 22 of them are seen at once, 105 are kept, 36 of the table's
    assert "… 3,383 more characters" in text
    assert "… 1,806 more characters, which are not kept here" in text
    assert "… 3,117 more characters" in text


def test_a_preview_breaks_between_words():
    sample = Sample(0, "", "", None, None, 0, None, "", (Turn("", "seven " * 300),), 1800, 1800)
    (head,), (tail,) = preview(sample)
    assert head.text.endswith("seven ")
    assert tail.text.startswith("seven ")


def colors(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", css))


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough_in_both_themes(theme):
    light, dark = CSS.split("@media (prefers-color-scheme: dark)")
    found = colors(light) | (colors(dark) if theme == "dark" else {})

    def contrast(a, b):
        high, low = sorted((luminance(found[a]), luminance(found[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ink, paper in product(("ink", "soft", "chosen", "cut"), ("paper", "card")):
        assert contrast(ink, paper) >= 4.5, (ink, paper)  # WCAG AA, text
    for ink in ("ink", "warn"):
        assert contrast(ink, "warn-card") >= 4.5
    for mark in ("pool", "chosen", "cut", "l0", "l1", "l2", "l3"):
        assert contrast(mark, "paper") >= 3  # WCAG AA, graphics
