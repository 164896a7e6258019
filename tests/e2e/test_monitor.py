# ruff: noqa: E402 - what needs torch is imported where it is there
"""Three versions of the demo's data, the third with a copied shard: flagged before and in training."""

from __future__ import annotations

import json
import random

import orjson
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

import didact
from didact import pipeline
from didact.analysis.risk.flags import BEFORE, write_risk
from didact.demo import write_demo_data
from didact.models.proxy import new_proxy
from didact.monitoring.monitor import monitor, series_of
from didact.verbs import context

pytestmark = pytest.mark.slow

N, SHARD, TIMES = 400, 20, 8


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("versions")


@pytest.fixture(scope="module")
def series(home):
    """Three runs on rows of the standard library's own words, with one model to begin with."""
    pool, _ = write_demo_data(home / "demo")
    rows = [orjson.loads(line) for line in pool.read_bytes().splitlines()]
    rows = [row for row in rows if 60 < len(row["text"]) < 400]
    random.Random(0).shuffle(rows)
    versions = [rows[i * N : (i + 1) * N] for i in range(3)]
    shard = [{**r, "id": f"{r['id']}#{k}"} for k in range(1, TIMES) for r in versions[2][:SHARD]]
    versions[2] = [*versions[2][: N - len(shard)], *shard]
    for i, version in enumerate(versions, 1):
        path = home / f"v{i}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in version))
        cache = {"cache_dir": home / "cache"}
        if i == 1:
            base = didact.read(path, **cache)
            new_proxy(home / "base", base, params="60k", vocab=400, context=128)
        config = {
            "data": {"path": str(path), "dedup": "none"},
            "score": {"method": "random"},
            "select": {"method": "top_k", "budget": {"samples": N}},
            "order": {"method": "shuffle", "batch_size": 4},
            "train": {"model": str(home / "base"), "learning_rate": 5e-3, "max_length": 64,
                      "device": "cpu"},
        }  # fmt: skip
        pipeline.run(config, home / "series" / f"v{i}", **cache)
    return home / "series"


@pytest.fixture(scope="module")
def found(series, home):
    ctx = context(cache_dir=home / "cache")
    return monitor(series_of(series), ctx=ctx), ctx.meter.bill


def test_the_copied_shard_is_flagged_before_and_in_training(found):
    first, second, third = found[0]
    assert (first.verdict, first.flags) == ("cannot_tell", ())
    assert second.verdict == "clean"
    assert third.seen == 1.0
    flags = {flag.kind: flag for flag in third.flags}
    assert {"redundancy", "copies", "repeats"} <= set(flags)
    assert flags["copies"].kind in BEFORE
    assert flags["repeats"].kind not in BEFORE
    for kind in ("copies", "repeats"):
        named = [row.id for row in flags[kind].rows.worst]
        assert flags[kind].rows.count >= SHARD * (TIMES - 1)
        assert sum("#" in name for name in named) >= len(named) // 2


def test_the_forward_passes_are_counted_and_kept(found, series, home):
    _, bill = found
    assert bill.charged.flops == bill.value.flops > 0
    ctx = context(cache_dir=home / "cache")
    monitor(series_of(series), seen=0.1, ctx=ctx)
    again = ctx.meter.bill
    assert (again.charged.flops, again.value.flops) == (0, bill.value.flops)


def test_it_judges_early(series, home):
    third = monitor(series_of(series), seen=0.1, ctx=context(cache_dir=home / "cache"))[2]
    assert third.seen == pytest.approx(0.1, abs=0.01)
    assert {"surprise", "loss"} <= {one.kind for one in third.judged}


def test_a_run_without_its_cache_is_judged_by_what_it_exported(series, home, found):
    again = monitor(series_of(series), ctx=context(cache_dir=home / "another cache"))
    for one, other in zip(found[0], again, strict=True):
        assert {flag.kind for flag in one.flags} == {flag.kind for flag in other.flags}


def test_the_report_of_a_run_shows_what_stands_in_its_folder(series, home, found):
    write_risk(found[0], series / "v3")
    pipeline.report(series / "v3", home / "report.html", cache_dir=home / "cache")
    page = (home / "report.html").read_text()
    assert "Risks of the data" in page
    assert "Flagged: v3." in page
    pipeline.report(series / "v2", home / "bare.html", cache_dir=home / "cache")
    assert "Risks of the data" not in (home / "bare.html").read_text()
    told = json.loads((series / "v3" / "risk.json").read_text())
    assert [one["version"] for one in told["versions"]] == ["v1", "v2", "v3"]


@pytest.mark.s3
def test_runs_in_a_bucket_are_judged_alike_by_their_models_too(series, home, s3):
    for name in ("v1", "v2"):
        for path in (series / name).rglob("*"):
            if path.is_file():
                s3.put(path.relative_to(series).as_posix(), path.read_bytes())
    here = monitor([series / "v1", series / "v2"], ctx=context(cache_dir=home / "cache"))
    ctx = context(cache_dir=home / "cache")
    url = s3.url.replace("//", "//AKIDOFTHETEST:PASSWORT@")
    assert monitor(series_of(url), ctx=ctx) == here
    assert {"surprise", "loss"} <= {one.kind for one in here[1].judged}
    assert ctx.meter.bill.value.flops > 0
    assert ctx.meter.bill.charged.flops == 0  # what the same model took on the same rows is kept
