"""Stages are values: one file and one line add one, and everything that walks a run finds it."""

from __future__ import annotations

import importlib
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import didact
from didact import config as configs
from didact import pipeline
from didact.cli import printing
from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.runs.folder import Outcome
from didact.stages.stage import Stage


def counted() -> Stage:
    """A stage as a newcomer would write it: how many rows were chosen, in a file."""

    def depends(values):
        return {"select": values.result("select")}

    def work(values, folder, ctx):
        ctx.meter.add(Cost(flops=12.0, tokens=3))
        path = folder / "count.json"
        path.write_text(json.dumps(len(values.made["select"])))
        return Outcome([path], {"rows": len(values.made["select"])}, ("counted",))

    def load(folder, record, values, ctx):
        return json.loads((folder / "count.json").read_text())

    def compare(a, b):
        return {"count": {"equal": a == b}}

    return Stage(
        name="count", depends=depends, work=work, load=load, compare=compare,
        estimate=lambda values: Cost(flops=10.0), does=lambda config: "counts",
    )  # fmt: skip


@pytest.fixture
def with_a_stage_more(monkeypatch):
    *first, report = pipeline.STAGES
    monkeypatch.setattr(pipeline, "STAGES", (*first, counted(), report))
    monkeypatch.setattr(printing, "STAGES", (*first, counted(), report))


def plain(chats):
    return {
        "data": {"path": str(chats)},
        "score": {"method": "length"},
        "select": {"method": "top_k", "budget": {"samples": 20}},
        "order": {"method": "sort"},
    }


def test_adding_a_stage_is_one_file_and_one_line(with_a_stage_more, chats, tmp_path):
    cache = tmp_path / "cache"
    pool, costs = pipeline.plan(configs.parse(plain(chats)), pipeline.context(cache_dir=cache))
    assert costs["count"] == Cost(flops=10.0)
    done = didact.run(plain(chats), tmp_path / "a", cache_dir=cache)
    record = done.manifest.stage("count")
    assert record is not None
    assert (tmp_path / "a" / "count.json").read_text() == "20"
    assert record.measured.bill.charged.flops == record.measured.bill.value.flops == 12.0
    assert record.estimated.flops == 10.0
    assert done.manifest.bill.value.tokens == 3
    assert ">count<" in (tmp_path / "a" / "report.html").read_text()
    shown = io.StringIO()
    with redirect_stdout(shown):
        printing.run_table(done)
        printing.dry_run_table(configs.parse(plain(chats)), pool, costs)
    assert "count" in shown.getvalue()
    assert "counts" in shown.getvalue()
    assert "count: counted" in shown.getvalue()
    didact.run(plain(chats), tmp_path / "b", cache_dir=cache)
    assert pipeline.diff(tmp_path / "a", tmp_path / "b")["count"] == {"equal": True}
    pipeline.report(tmp_path / "a", tmp_path / "again.html", cache_dir=cache)
    assert ">count<" in (tmp_path / "again.html").read_text()
    again = didact.run(plain(chats), tmp_path / "a", cache_dir=cache)
    assert again.manifest.stage("count").measured.reused
    assert again.manifest.stage("count").measured.bill.charged.flops == 0
    assert again.manifest.stage("count").measured.bill.value.flops == 12.0


def test_a_stage_that_is_gone_takes_its_files_along(with_a_stage_more, chats, tmp_path):
    didact.run(plain(chats), tmp_path / "a")
    stages = tuple(s for s in pipeline.STAGES if s.name != "count")
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(pipeline, "STAGES", stages)
        again = didact.run(plain(chats), tmp_path / "a")
    assert not (tmp_path / "a" / "count.json").exists()
    assert any("count: no longer in the config" in line for line in again.changes)


def test_every_stage_has_a_name_of_its_own_and_stands_in_the_run():
    names = [stage.name for stage in pipeline.STAGES]
    assert len(set(names)) == len(names)
    assert (names[0], names[-1]) == ("data", "report")
    folder = Path(pipeline.__file__).parent / "stages"
    for path in folder.glob("*.py"):
        module = importlib.import_module(f"didact.stages.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, Stage):
                assert value in pipeline.STAGES, f"{path.name}: no line in pipeline.STAGES"


def test_a_target_that_cannot_be_read_shows_before_the_pool_is_read(tmp_path):
    seen = []
    (tmp_path / "pool.jsonl").write_text('{"text": "a"}\n' * 100)
    (tmp_path / "target.jsonl").write_text("nonsense\n")
    config = {
        "data": {"path": str(tmp_path / "pool.jsonl")},
        "score": {"method": "bm25", "target": str(tmp_path / "target.jsonl")},
    }
    with pytest.raises(didact.DidactError, match=r"target\.jsonl"):
        didact.run(config, tmp_path / "out", cache_dir=tmp_path / "cache", progress=seen.append)
    assert not (tmp_path / "cache" / "pools").exists()


def test_two_runs_at_once_do_not_charge_each_other(chats, tmp_path, monkeypatch):
    """Two runs in two threads: what one's stage adds is not on the other's bill."""
    from threading import Barrier, Thread

    barrier = Barrier(2)

    def stage(flops):
        def work(values, folder, ctx):
            barrier.wait(30)  # both are in their stage
            ctx.meter.add(Cost(flops=flops))
            ctx.meter.bill  # noqa: B018 - looking changes nothing
            barrier.wait(30)
            return Outcome()

        return Stage(name="count", depends=lambda values: {}, work=work)

    bills = {}

    def run(name):
        done = didact.run(plain(chats), tmp_path / name, cache_dir=tmp_path / f"{name}-cache")
        bills[name] = done.manifest.stage("count").measured.bill

    flops = {"a": 5.0, "b": 7.0}
    by_folder = Stage(
        name="count",
        depends=lambda values: {},
        work=lambda values, folder, ctx: stage(flops[folder.name]).work(values, folder, ctx),
    )
    monkeypatch.setattr(pipeline, "STAGES", (*pipeline.STAGES[:-1], by_folder))
    threads = [Thread(target=run, args=(name,)) for name in flops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: bill.charged.flops for name, bill in bills.items()} == flops
    assert {name: bill.value.flops for name, bill in bills.items()} == flops


def test_a_wrong_config_is_refused_before_anything_is_read(chats, tmp_path):
    config = {**plain(chats), "score": {"method": "bm25"}}
    with pytest.raises(ConfigError, match="needs a target set"):
        didact.run(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
