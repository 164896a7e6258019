"""A comparison through the command line: killed, gone on, added to, and made a plan of."""

from __future__ import annotations

import json
import os
import re
import subprocess

import orjson
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector, FileType

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from didact.planning.comparison import Comparison
from didact.runs.folder import read_manifest

LIBRARIES = (
    "didact.cli.compare_tables", "didact.comparing.compare", "didact.plans", "didact.training.loop",
    "didact.evaluation.evaluate", "transformers.trainer", "transformers.models.llama.modeling_llama",
)  # fmt: skip
# What kill -9 does in the middle of the third run's training.
KILLED = """
import os, signal
from didact.comparing import running
whole, begun = running.pipeline.run, []
def until_the_third(config, out, *, progress, **more):
    begun.append(out)
    def watched(step):
        if len(begun) == 3 and step.unit == "steps" and step.done == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return whole(config, out, progress=watched, **more)
running.pipeline.run = until_the_third
"""


def chat(i):
    asked = f"say {i} {'again ' * (i * 7 % 11)}"
    return {"messages": [{"role": "user", "content": asked},
                         {"role": "assistant", "content": f"here you are: {i}"}]}  # fmt: skip


GRID = {
    "data": "pool.jsonl", "base": "base", "target": "target.jsonl", "tell_on": ["test.jsonl"],
    "budgets": [0.3, 1], "seeds": [0, 1], "tasks": 4,
    "train": {"batch_size": 4, "learning_rate": 5e-3, "device": "cpu"},
    "evaluate": {"device": "cpu"},
    "arms": [
        {"name": "words", "score": {"method": "bm25"}},
        {"name": "judged", "score": {"method": "perplexity", "model": "base", "device": "cpu"}},
    ],
}  # fmt: skip
BROKEN = {"name": "broken", "score": {"method": "length"}, "train": {"learning_rate": 1e30}}


@pytest.fixture(scope="module")
def place(tmp_path_factory, warm):
    """A folder, what runs `didact` there, and what the killed and the second call said."""
    folder = tmp_path_factory.mktemp("compare")
    for name, rows in {
        "pool": range(50), "target": range(50, 56), "test": range(60, 72)
    }.items():  # fmt: skip
        lines = [orjson.dumps(chat(i)) + b"\n" for i in rows]
        (folder / f"{name}.jsonl").write_bytes(b"".join(lines))
    (folder / "grid.yaml").write_text(json.dumps(GRID))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "DIDACT_CACHE": str(folder / "cache")}
    with warm(LIBRARIES, env) as words:

        def call(*more, first="", code=0, env=env):
            done = subprocess.run(
                [*words, *more], cwd=folder, env={**env, "WARM_FIRST": first}, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == code, done.stdout + done.stderr
            return done

        call("proxy", "new", "base", "--pool", "pool.jsonl", "--params", "20k", "--vocab", "300",
             "--context", "96")  # fmt: skip
        compare = ("compare", "grid.yaml", "-o", "OUT")
        killed = call(*compare, first=KILLED, code=-9)
        stood = {p.name: p.stat().st_mtime_ns for p in (folder / "OUT" / "arms").glob("*.json")}
        done = call(*compare)
        yield folder, call, killed, stood, done


def objects(s3, folder):
    """Name → bytes of every object in a folder of the bucket."""
    base = f"{s3.url[5:]}/{folder}"
    found = s3.filesystem.get_file_info(FileSelector(base, recursive=True))
    return {i.path[len(base) + 1 :]: s3.filesystem.open_input_file(i.path).read()
            for i in found if i.type == FileType.File}  # fmt: skip


def found(folder):
    return Comparison.from_json(json.loads((folder / "OUT" / "comparison.json").read_text()))


def test_killed_it_goes_on_and_what_is_done_is_not_done_again(place):
    folder, _, killed, stood, done = place
    assert sorted(stood) == ["all-0.json", "all-1.json"]
    assert "all-1: " in killed.stderr
    assert "in all " in killed.stderr  # the bill comes before the first run
    assert "2 of 8 runs are done already" in done.stderr
    for name, moment in stood.items():
        assert (folder / "OUT" / "arms" / name).stat().st_mtime_ns == moment
    assert "8 of 8 runs, about 0 s left" in done.stderr


def test_every_arm_keeps_to_its_budget_and_pays_for_its_scores(place):
    arms = {(arm.name, arm.beta): arm for arm in found(place[0]).arms}
    full = arms["all", 1.0]
    for (name, beta), arm in arms.items():
        if name not in {"base", "all"} and beta < 1 and arm.feasible:
            assert 0 < arm.selection_flops + arm.training_flops <= arm.k_flops
        assert arm.seeds == (0 if not arm.feasible else 1 if name == "base" else 2)
    dear = arms["judged", 0.3]
    assert not dear.feasible
    assert dear.reason.startswith("scoring is estimated to take ")
    assert dear.selection_flops >= dear.k_flops
    paid = arms["judged", 1.0]
    assert paid.selection_flops + paid.training_flops <= paid.k_flops
    assert paid.training_flops < 0.75 * full.training_flops
    assert arms["random", 0.3].selection_flops == 0
    # at a full pass all of them are the same training
    assert arms["random", 1.0].value == arms["words", 1.0].value == full.value
    assert arms["base", 0.0].value > full.value


def test_scores_are_made_once_and_weights_are_not_kept(place):
    folder = place[0]
    kept = list((folder / "cache" / "scores").iterdir())
    assert len(kept) == 4  # bm25, perplexity, two draws of random
    runs = folder / "OUT" / "runs"
    names = {f"all-{s}" for s in (0, 1)} | {f"judged-1-{s}" for s in (0, 1)}
    names |= {f"{arm}-0.3-{s}" for arm in ("random", "words") for s in (0, 1)}
    assert {run.name for run in runs.iterdir()} == names
    assert not list(runs.rglob("*.safetensors"))
    chosen = [pq.read_table(runs / f"random-0.3-{s}/selection.parquet") for s in (0, 1)]
    assert chosen[0].column("row") != chosen[1].column("row")  # a draw each
    seeds = [read_manifest(runs / f"words-0.3-{s}").config["seeds"] for s in (0, 1)]
    assert [s["order"] for s in seeds] == [0, 1]
    assert {s["draw"] for s in seeds} == {0}


def test_its_files(place):
    folder, *_, done = place
    assert "wrote" in done.stdout
    table = pq.read_table(folder / "OUT" / "arms.parquet").to_pylist()
    arms = found(folder).arms
    assert [row["name"] for row in table] == [arm.name for arm in arms]
    judged = next(row for row in table if row["name"] == "judged")
    assert judged["selection_flops_shared"] == judged["selection_flops"] / 4
    page = (folder / "OUT" / "comparison.html").read_text()
    assert "scoring is estimated to take" in page
    assert "<script" not in page


def test_a_plan_is_made_of_it(place):
    call = place[1]
    done = call("plan", "--pool", "pool.jsonl", "--model", "base", "--budget", "2e9",
                "--from", "OUT", "--method", "bm25", "--batch-size", "4", "--json")  # fmt: skip
    plan = json.loads(done.stdout)
    assert plan["prior"]["source"] == "compare"
    assert set(plan["prior"]["rates"]) == {"random", "bm25"}
    assert any("perplexity could be paid at 1 budget" in note for note in plan["notes"])


def test_an_arm_that_fails_is_named_and_the_others_stand(place):
    folder, call, *_ = place
    arms = [*GRID["arms"], BROKEN]
    (folder / "more.yaml").write_text(json.dumps({**GRID, "arms": arms, "budgets": [0.3]}))
    done = call("compare", "more.yaml", "-o", "OUT", code=1)
    assert "6 of 8 runs are done already" in done.stderr
    assert "failed: broken-0.3-0: failed: ExecutionError" in done.stdout
    rows = [arm for arm in found(folder).arms if arm.name == "broken"]
    assert [(arm.status, arm.feasible, arm.value) for arm in rows] == [("failed", True, None)]
    assert "failed: ExecutionError" in rows[0].reason
    assert {arm.name for arm in found(folder).arms if arm.status == "done"} == {
        "base", "all", "random", "words"
    }  # fmt: skip


def test_a_dry_run_runs_nothing(place):
    folder, call, *_ = place
    done = call("compare", "grid.yaml", "-o", "DRY", "--dry-run", "--json")
    bill = json.loads(done.stdout)
    runs = {line["setting"]: line["runs"] for line in bill["lines"]}
    assert runs == {"base": 1, "all": 2, "random": 2, "words": 2, "judged": 2}
    assert bill["hours"] > 0
    assert not (folder / "DRY" / "runs").exists()
    less = call("compare", "grid.yaml", "-o", "DRY", "--dry-run", "--json", "--max-hours",
                str(0.99 * bill["hours"]))  # fmt: skip
    assert json.loads(less.stdout)["dropped"] == ["judged"]


def test_what_is_done_stays_where_its_arm_is_dropped(place):
    folder, call, *_ = place
    # one more seed: every arm is half done, and no hour is left for what can go
    (folder / "seeds.yaml").write_text(json.dumps({**GRID, "seeds": [0, 1, 2], "budgets": [0.3]}))
    done = call("compare", "seeds.yaml", "-o", "OUT", "--dry-run", "--json")
    hours = json.loads(done.stdout)["hours"]
    records = [json.loads(p.read_text()) for p in (folder / "OUT" / "arms").glob("*.json")]
    of_grid = [r for r in records if not r["name"].startswith(("judged", "broken"))]
    spent = sum(r["seconds"] for r in of_grid) / 3600
    call("compare", "seeds.yaml", "-o", "OUT", "--max-hours", str(spent + 0.99 * hours),
         "--jobs", "2")  # fmt: skip
    seeds = {(arm.name, arm.beta): (arm.seeds, arm.reason) for arm in found(folder).arms}
    assert seeds["random", 0.3] == (3, "")
    assert seeds["words", 0.3] == (2, "1 of 3 runs not run")
    made = {p: p.stat().st_mtime_ns for p in (folder / "OUT").glob("[abrs]*/*")}
    told = call("compare", "seeds.yaml", "-o", "OUT", "--so-far", "--json")
    assert made == {p: p.stat().st_mtime_ns for p in (folder / "OUT").glob("[abrs]*/*")}
    again = {
        (a["name"], a["beta"]): (a["seeds"], a["reason"]) for a in json.loads(told.stdout)["arms"]
    }
    assert again == seeds


@pytest.mark.s3
def test_in_a_bucket_it_is_the_same_killed_and_gone_on_with_on_another_machine(place, s3, tmp_path):
    folder, call, *_ = place
    small = {**GRID, "budgets": [0.3], "seeds": [0], "arms": []}
    grid = s3.put("grid.yaml", json.dumps(small).encode())
    out = s3.url.replace("//", "//AKIDOFTHETEST:PASSWORT@") + "/OUT"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "DIDACT_CACHE": str(folder / "cache")}

    def compare(scratch, *more, **expected):
        here = {**env, "DIDACT_SCRATCH": str(tmp_path / scratch)}
        return call("compare", grid, "-o", out, *more, env=here, **expected)

    # begun on a disk
    for path in (folder / "OUT").rglob("*"):
        name = path.relative_to(folder / "OUT").as_posix()
        if re.match(r"(compare|speed)\.json|bases/\w|(arms|runs)/all-0\b", name) and path.is_file():
            s3.put(f"OUT/{name}", path.read_bytes())
    compare("one", first=KILLED.replace("== 3", "== 1"), code=-9)
    begun = next((tmp_path / "one").rglob("runs/*/random-0.3-0")).relative_to(tmp_path / "one")
    # as one leaves that was killed once its record stood
    (tmp_path / "another" / begun).with_name("all-0").mkdir(parents=True)
    assert not [n for n in objects(s3, "OUT") if "random" in n and not n.endswith("lock")]
    done = compare("another")
    assert "1 of 2 runs are done already" in done.stderr
    assert "wrote s3://***@" in done.stdout
    there = objects(s3, "OUT")
    timed = {"seconds", "selection_cpu_seconds"}
    for run in ("all-0", "random-0.3-0"):
        mine = folder / "OUT" / "runs" / run
        names = {p.relative_to(mine).as_posix() for p in mine.rglob("*") if p.is_file()}
        found = {n.removeprefix(f"runs/{run}/") for n in there if n.startswith(f"runs/{run}/")}
        assert found - {".lock"} == names - {".lock"}
        for name in ("selection.parquet", "order.parquet", "model/trained_on.npy",
                     "evaluation.parquet"):  # fmt: skip
            assert there[f"runs/{run}/{name}"] == (mine / name).read_bytes()
        records = [json.loads((folder / "OUT" / "arms" / f"{run}.json").read_bytes()),
                   json.loads(there[f"arms/{run}.json"])]  # fmt: skip
        assert len({str({k: v for k, v in r.items() if k not in timed}) for r in records}) == 1
    assert not [n for n, data in there.items() if b"PASSWORT" in data]
    assert [n for n in there if n.startswith("arms/.")] == []
    assert not list((tmp_path / "another").rglob("runs/*/*"))
    refused = call("compare", grid, "-o", f"{s3.url}", env=env, code=1)
    assert "is there and no comparison" in refused.stderr
