"""Following a plan: the run's own pool, model and version, or an error that says what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import didact
from didact import config as configs
from didact import plans, verbs
from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.planning.follow import check_model, sections

# A pool of some thousand tokens: a 150M model's full pass is about 8e12 FLOPs.
BUDGET = 3e12


@pytest.fixture
def files(chats: Path, target: Path, tmp_path: Path, comparison: Any) -> dict[str, Path]:
    made = tmp_path / "comparison.json"
    made.write_text(json.dumps(comparison({"random": 2.0, "bm25": 5.0, "length": 1.0})))
    return {"pool": chats, "target": target, "comparison": made}


@pytest.fixture
def planned(files: dict[str, Path], tmp_path: Path) -> Path:
    plan = didact.plan(
        files["pool"], model="150M", budget=BUDGET, comparison=files["comparison"],
        methods=["bm25", "length"], batch_size=8,
    )  # fmt: skip
    assert plan.verdict.code == "select"
    assert any("tokens are an estimate (bytes/4)" in note for note in plan.notes)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan.to_json()))
    return file


def config(files: dict[str, Path], **more: Any) -> Any:
    return configs.parse({"data": {"path": str(files["pool"])}} | more)


def test_a_run_does_what_its_plan_recommends(
    files: dict[str, Path], planned: Path, tmp_path: Path
) -> None:
    asked = config(
        files, score={"method": "random", "target": str(files["target"])}, order={"method": "keep"}
    )
    done = plans.follow(asked, planned, verbs.context())
    plan = json.loads(planned.read_text())
    row = plan["rows"][plan["recommended"]]
    assert done.score is not None
    assert (done.score.method, done.score.target) == ("bm25", str(files["target"]))
    assert done.order == asked.order
    run = didact.run(done, tmp_path / "OUT")
    chosen = run.manifest.stage("select")
    assert chosen is not None
    tokens = row["fraction"] * plan["question"]["pool"]["tokens"]
    assert 0.9 * tokens < chosen.counts["tokens"] <= tokens


def test_settings_of_the_same_method_stay(files: dict[str, Path], planned: Path) -> None:
    own = {"method": "bm25", "target": str(files["target"]), "k1": 0.9}
    done = plans.follow(config(files, score=own), planned, verbs.context())
    assert done.score is not None
    assert done.score.settings() == {"k1": 0.9}


def test_all_of_it_is_neither_score_nor_selection(files: dict[str, Path], tmp_path: Path) -> None:
    plan = didact.plan(files["pool"], model="150M", budget=1e15, methods=["bm25"])
    assert plan.verdict.code == "all"
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    asked = config(files, score={"method": "bm25"}, select={"method": "top_k"})
    done = plans.follow(asked, tmp_path, verbs.context())  # the folder that holds it
    assert done.score is done.select is None


def test_an_order_keeps_its_scores_where_all_of_it_is_taken(
    files: dict[str, Path], tmp_path: Path
) -> None:
    plan = didact.plan(files["pool"], model="150M", budget=1e15, methods=["bm25"])
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    by = {"method": "bm25", "target": str(files["target"])}
    asked = config(files, score=by, order={"method": "fold", "layers": 2})
    done = plans.follow(asked, tmp_path, verbs.context())
    assert done.score is None
    assert done.order is not None
    assert done.order.score == asked.score
    ran = didact.run(done, tmp_path / "OUT").manifest
    assert ran.stage("order").counts["rows"] == plan.question["pool"]["samples"]
    shuffled = config(files, score=by, order={"method": "shuffle"})
    assert plans.follow(shuffled, tmp_path, verbs.context()).order == shuffled.order


def test_another_pool_is_refused(files: dict[str, Path], planned: Path, tmp_path: Path) -> None:
    other = dict(files, pool=tmp_path / "other.jsonl")
    other["pool"].write_text("".join(files["pool"].read_text().splitlines(keepends=True)[:290]))
    with pytest.raises(PoolMismatchError, match=r"made for pool .* this is pool .* make the plan"):
        plans.follow(config(other), planned, verbs.context())


def test_counts_must_be_near_the_pools(files: dict[str, Path], planned: Path) -> None:
    plan = json.loads(planned.read_text())
    stats = verbs.read(files["pool"]).stats
    plan["question"]["pool"] |= {"fingerprint": None, "samples": stats.n, "tokens": stats.n_tokens}
    own = {"method": "bm25", "target": "t"}
    assert sections(plan, stats, "x", score=own)["score"]["method"] == "bm25"
    plan["question"]["pool"]["tokens"] *= 2
    with pytest.raises(PoolMismatchError, match="tokens, this pool has"):
        sections(plan, stats, "x", score=own)


def test_no_target_no_recommendation_no_place_of_a_judge(
    files: dict[str, Path], planned: Path
) -> None:
    with pytest.raises(ConfigError, match=r"needs a target set; set score\.target"):
        plans.follow(config(files), planned, verbs.context())
    plan = json.loads(planned.read_text())
    row = plan["rows"][plan["recommended"]]
    planned.write_text(json.dumps(plan | {"recommended": None}))
    with pytest.raises(ConfigError, match="recommends nothing"):
        plans.follow(config(files), planned, verbs.context())
    row |= {"method": "perplexity", "selector": "1B"}
    planned.write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match=r"perplexity by '1B', which says no place"):
        plans.follow(config(files), planned, verbs.context())


def test_another_version_and_what_is_no_plan(files: dict[str, Path], planned: Path) -> None:
    plan = json.loads(planned.read_text())
    planned.write_text(json.dumps(plan | {"version": "0.0.9"}))
    with pytest.raises(ConfigError, match=r"made by didact 0\.0\.9, this is"):
        plans.follow(config(files), planned, verbs.context())
    for text in ("{}", "[]", '{"plan": 1}'):
        planned.write_text(text)
        with pytest.raises(DataError, match="not a plan"):
            plans.read_plan(planned)
    planned.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        plans.read_plan(planned)


def test_another_model_is_refused(planned: Path) -> None:
    plan = json.loads(planned.read_text())
    check_model(plan, 148_000_000, "M")
    with pytest.raises(ConfigError, match=r"made for 150M .* M has 7,000,000,000"):
        check_model(plan, 7_000_000_000, "M")


def test_random_samples_leave_the_order_its_scores(files: dict[str, Path], planned: Path) -> None:
    plan = json.loads(planned.read_text())
    row = plan["rows"][plan["recommended"]]
    row |= {"method": "random"}
    planned.write_text(json.dumps(plan))
    own = {"method": "bm25", "target": str(files["target"])}
    asked = config(files, score=own, order={"method": "fold", "layers": 3})
    done = plans.follow(asked, planned, verbs.context())
    assert done.score is not None
    assert done.score.method == "random"
    assert done.order is not None
    assert done.order.score is not None
    assert done.order.score.method == "bm25"
