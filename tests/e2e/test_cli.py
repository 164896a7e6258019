"""The command line as people use it: a process, its exit code, its two streams.

The processes are forks of one; those that start from nothing are in the README and the docs, which
are run as they are written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import orjson
import pyarrow.parquet as pq
import pytest

from didact.core.locks import alone_in
from didact.runs.folder import open_run_folder


@pytest.fixture
def didact(tmp_path, warm_didact):
    def call(*words, code=0, start=warm_didact, **environment):
        done = subprocess.run(
            [*start, *map(str, words)], capture_output=True, text=True, check=False, cwd=tmp_path,
            env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return call


def test_inspect_says_what_a_file_holds(didact, chats):
    found = json.loads(didact("inspect", chats, "--json").stdout)
    assert found["format"] == ["messages"]
    assert found["samples"] == 300
    assert found["duplicates"] == 30
    assert found["sources"] == {"web": 100, "books": 100, "code": 100}
    assert found["tokens_are_an_estimate"] is True
    assert len(found["examples"]) == 3
    text = didact("inspect", chats).stdout
    assert "bytes/4" in text
    assert "row-0" in text


def test_data_cannot_steer_the_terminal(didact, tmp_path):
    path = tmp_path / "evil.jsonl"
    row = {"id": "\x1b[31mid", "source": "\x1b[2J", "text": "a\x1b[2Jb\x07 [bold red]c[/] \u202ed"}
    path.write_bytes(orjson.dumps(row) + b"\n")
    out = didact("inspect", path).stdout
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\u202e" not in out
    assert "[bold red]c[/]" in out


def test_two_commands_into_one_folder(didact, chats, tmp_path):
    out, chosen = tmp_path / "out", ["--method", "random", "--budget", "ratio=0.1"]
    with alone_in(out):
        done = didact("select", chats, *chosen, "-o", out, code=1)
    assert "out: another command is writing there; wait for it, or" in done.stderr
    assert not list(out.iterdir())  # nothing was written, and the lock went with its holder
    config = tmp_path / "c.yaml"
    config.write_text(f"{{data: {{path: {chats}}}, score: {{method: length}}}}")
    with open_run_folder(tmp_path / "run"):
        done = didact("run", config, "-o", tmp_path / "run", code=1)
    assert "run is in use by another run; wait for it, or choose another -o" in done.stderr


def test_a_path_in_quotes_may_begin_with_the_home_folder(didact, chats, tmp_path):
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "pool.jsonl").write_bytes(chats.read_bytes())
    words = ("score", "~/data/pool.jsonl", "--method", "length", "-o", "~/scores.parquet")
    didact(*words, "--cache-dir", "~/cache", HOME=str(home))
    chosen = ("--method", "top_k", "--scores", "~/scores.parquet", "--budget", "samples=3")
    didact("select", "~/data/pool.jsonl", *chosen, "-o", "~/chosen", HOME=str(home))
    assert (home / "chosen" / "selection.parquet").is_file()
    assert (home / "cache").is_dir()
    assert not (tmp_path / "~").exists()


def test_init_writes_a_config_that_runs(didact, chats, target, tmp_path):
    didact("init", chats, "--target", target, "-o", "run.yaml")
    written = (tmp_path / "run.yaml").read_text()
    assert "\n  method: shuffle " in written
    # what it offers in comments can be switched on as it stands
    other = written.replace("  method: shuffle ", "  # method: shuffle ")
    for line in ("near_duplicates: {", "method: fold ", "layers: 3"):
        assert f"\n  # {line}" in other
        other = other.replace(f"\n  # {line}", f"\n  {line}")
    (tmp_path / "other.yaml").write_text(other)
    shown = json.loads(didact("config", "show", "other.yaml", "--json").stdout)
    assert (shown["order"]["method"], shown["order"]["layers"]) == ("fold", 3)
    assert shown["select"]["near_duplicates"]["similarity"] == 0.8
    didact("init", chats, "-o", "run.yaml", code=1)
    plan = json.loads(didact("run", "run.yaml", "--dry-run", "--json").stdout)
    assert plan["samples"] == 300
    assert set(plan["estimated"]) == {"data", "score", "select", "report"}
    assert not (tmp_path / "OUT").exists()
    done = didact("run", "run.yaml", "-o", "OUT")
    assert "OUT/report.html" in done.stdout
    assert (tmp_path / "OUT" / "train.jsonl").exists()


def test_every_json_is_json_and_progress_stays_off_stdout(didact, chats, target, tmp_path):
    (tmp_path / "run.yaml").write_text(
        f"data: {{path: {chats}}}\nscore: {{method: length}}\n"
        "select: {method: top_k, budget: {samples: 20}}\norder: {method: sort}\n"
    )
    manifest = json.loads(didact("run", "run.yaml", "-o", "A", "--json").stdout)
    assert [s["name"] for s in manifest["stages"]] == [
        "data", "score", "select", "order", "export", "report",
    ]  # fmt: skip
    didact("run", "run.yaml", "-o", "B", "--set", "select.budget.samples=30")
    found = json.loads(didact("diff", "A", "B", "--json").stdout)
    assert found["config"] == {"select.budget.samples": [20, 30]}
    assert found["selection"] == {"a": 20, "b": 30, "shared": 20, "jaccard": 20 / 30}
    assert found["scores"] == {"spearman": 1.0}
    assert json.loads(didact("diff", "A", "A", "--json").stdout)["equal"] is True
    names = [f"config.{name}" for name in found["config"]] + [
        f"counts.{n}" for n in found["counts"]
    ]
    for columns in ("40", "60", "80"):  # no name is torn, whatever the width
        told = didact("diff", "A", "B", COLUMNS=columns).stdout
        assert set(names) <= set(told.split())
        assert max(map(len, told.split("\na: ")[0].splitlines())) <= int(columns)
    assert json.loads(didact("methods", "--json").stdout)
    (described,) = json.loads(didact("methods", "fold", "--json").stdout)
    assert described["settings"]["layers"]["default"] == "3"
    schema = json.loads(didact("config", "schema").stdout)
    assert schema["properties"]["select"]
    shown = json.loads(didact("config", "show", "run.yaml", "--json").stdout)
    assert shown["select"]["budget"] == {"samples": 20}
    scored = json.loads(
        didact("score", chats, "--method", "length", "-o", "s.parquet", "--json").stdout
    )
    assert scored["rows"] == 300
    picked = didact("select", chats, "--scores", "s.parquet", "--method", "top_k",
                    "--budget", "samples=5", "-o", "C", "--json")  # fmt: skip
    assert json.loads(picked.stdout)["samples"] == 5
    ordered = didact(
        "order", "C", "--scores", "s.parquet", "--method", "sort", "-o", "o.parquet", "--json"
    )
    assert json.loads(ordered.stdout)["rows"] == 5
    exported = didact("export", chats, "--order", "o.parquet", "-o", "D", "--json")
    assert json.loads(exported.stdout)["rows"] == 5


def test_the_tables_have_the_columns_other_tools_rely_on(didact, chats, target, tmp_path):
    didact("score", chats, "--method", "bm25", "--target", target, "-o", "s.parquet")
    scores = pq.read_table(tmp_path / "s.parquet")
    assert scores.column_names == ["row", "id", "score", "task:fruit", "task:metal"]
    meta = json.loads(scores.schema.metadata[b"didact"])
    assert {"pool_fingerprint", "method", "higher_is_better", "settings"} <= set(meta)
    didact(
        "select",
        chats,
        "--scores",
        "s.parquet",
        "--method",
        "top_k",
        "--budget",
        "ratio=0.1",
        "-o",
        "C",
    )
    chosen = pq.read_table(tmp_path / "C" / "selection.parquet")
    assert chosen.column_names == ["row", "id", "rank", "score", "why"]
    assert len(chosen) == 30
    didact("order", "C/selection.parquet", "--scores", "s.parquet", "--method", "fold",
           "--set", "layers=3", "--set", "epochs=2", "-o", "order.parquet")  # fmt: skip
    order = pq.read_table(tmp_path / "order.parquet")
    assert order.column_names == ["position", "row", "id"]
    assert len(order) == 60


def test_an_order_needs_no_pool(didact, chats, tmp_path):
    """The selection and the scores are enough, even where the cache is gone."""
    didact("score", chats, "--method", "length", "-o", "s.parquet")
    didact(
        "select",
        chats,
        "--scores",
        "s.parquet",
        "--method",
        "top_k",
        "--budget",
        "samples=9",
        "-o",
        "C",
    )
    empty = {"DIDACT_CACHE": str(tmp_path / "no cache")}
    didact("order", "C", "--scores", "s.parquet", "--method", "fold", "-o", "o.parquet", **empty)
    failed = didact("order", "C", "--scores", "s.parquet", "--method", "fold", "--set",
                    "interleave=true", "-o", "p.parquet", code=1, **empty)  # fmt: skip
    assert "not in the cache" in failed.stderr
    assert "--pool" in failed.stderr
    didact("order", "C", "--scores", "s.parquet", "--method", "fold", "--set", "interleave=true",
           "--pool", chats, "-o", "p.parquet", **empty)  # fmt: skip
    assert len(pq.read_table(tmp_path / "p.parquet")) == 9


def test_several_scores_are_combined(didact, chats, tmp_path):
    for name, method in (("a", "length"), ("b", "compression")):
        didact("score", chats, "--method", method, "-o", f"{name}.parquet")
    didact("select", chats, "--scores", "a.parquet", "--scores", "b.parquet", "--combine", "rank_mean",
           "--method", "top_k", "--budget", "samples=7", "-o", "C")  # fmt: skip
    assert len(pq.read_table(tmp_path / "C" / "selection.parquet")) == 7


def test_a_target_set_has_the_same_said_of_it_by_both_doors(didact, tmp_path):
    rows = [{"text": "a cat"}, {"text": "a dog"}]
    target = [rows[0], {"text": "\u200b"}, {"txt": "lost"}]
    for name, given in (("pool", rows), ("target", target)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    how = ("--data", "on_bad_row=skip")
    score = didact("score", "pool.jsonl", "--method", "bm25", "--target", "target.jsonl", *how,
                   "-o", "s.parquet")  # fmt: skip
    (tmp_path / "run.yaml").write_text(
        "data: {path: pool.jsonl, on_bad_row: skip}\n"
        "score: {method: bm25, target: target.jsonl}\n"
        "select: {method: top_k, budget: {samples: 1}}\n"
    )
    didact("run", "run.yaml", "-o", "out")
    stages = json.loads((tmp_path / "out" / "manifest.json").read_text())["stages"]
    (stage,) = (stage for stage in stages if stage["name"] == "score")
    said = [line.removeprefix("note: ") for line in score.stderr.splitlines()]
    where = "rejected_score_target.jsonl"  # in the folder of a run
    assert [found["kind"] for found in stage["findings"]] == [
        "target_in_pool", "blank_text", "rejected_target",
    ]  # fmt: skip
    for found in stage["findings"]:
        assert any(line.startswith(found["text"].partition(where)[0]) for line in said), said


def test_a_report_without_samples_has_no_user_text(didact, chats, tmp_path):
    (tmp_path / "run.yaml").write_text(f"data: {{path: {chats}}}\nscore: {{method: length}}\n")
    didact("run", "run.yaml", "-o", "A")
    assert "question " in (tmp_path / "A" / "report.html").read_text()
    didact("report", "A", "--no-samples", "-o", "share.html")
    assert "question " not in (tmp_path / "share.html").read_text()
    assert "row-" not in (tmp_path / "share.html").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scor"], 2, "score"),
        (["run"], 2, "CONFIG"),
        (["inspect", "nope.jsonl"], 1, "nope.jsonl: no such file"),
        (["run", "nope.yaml", "-o", "x"], 1, "nope.yaml: no such file"),
        (["methods", "bm52"], 1, "did you mean 'bm25'"),
        (["score", "POOL", "--method", "bm25", "-o", "s.parquet"], 1, "needs a target"),
        (["score", "POOL", "--method", "lenght", "-o", "s.parquet"], 1, "did you mean 'length'"),
        (["score", "POOL", "--method", "length", "--set", "unti=bytes", "-o", "s"], 1, "did you mean 'unit'"),
        (["score", "POOL", "--method", "column", "--set", "name=meta.scor", "--set", "prefer=higher",
          "-o", "s.parquet"], 1, "meta.score"),
        (["select", "POOL", "--method", "top_k", "--budget", "samples=3", "-o", "C"], 1, "score"),
        (["select", "POOL", "--method", "top_k", "--budget", "sample=3", "-o", "C"], 1, "samples=N"),
        (["order", "nope", "--method", "fold", "-o", "o"], 1, "nope"),
        (["export", "POOL", "--order", "POOL", "-o", "x"], 1, "not a readable Parquet"),
        (["inspect", "POOL", "--data", "colums.text=a"], 1, "did you mean 'columns'"),
        (["inspect", "POOL", "--data", "columns.txt=a"], 1, "did you mean 'text'"),
        (["select", "POOL", "--method", "top_k", "--set", "budget.ratio=0.2", "-o", "C"], 1, "--set budget"),
        (["score", "POOL", "--method", "length", "--set", "ctx=1", "-o", "s"], 1, "--set ctx"),
        (["diff", "x", "y"], 1, "not a run folder"),
        (["report", "x"], 1, "not a run folder"),
        (["run", "POOL", "-o", "x"], 1, "POOL"),
    ],
)  # fmt: skip
def test_mistakes_get_an_exit_code_and_a_remedy(didact, chats, words, code, said):
    done = didact(*[str(chats) if w == "POOL" else w for w in words], code=code)
    assert said.replace("POOL", chats.name) in done.stderr
    assert done.stdout == ""


def test_a_budget_above_the_pool_says_what_there_is(didact, chats):
    didact("score", chats, "--method", "length", "-o", "s.parquet")
    for budget in ("samples=301", "samples=300", "tokens=1e18"):
        done = didact("select", chats, "--scores", "s.parquet", "--method", "top_k",
                      "--budget", budget, "-o", "C", code=1)  # fmt: skip
        assert "BudgetError" in done.stderr
        assert "300" in done.stderr or "tokens" in done.stderr


def test_a_cache_that_cannot_be_made_is_said(didact, chats):
    done = didact("inspect", chats, "--cache-dir", "/dev/full", code=1)
    assert "--cache-dir" in done.stderr


def test_settings_around_an_order_are_checked(didact, chats, tmp_path):
    didact("score", chats, "--method", "length", "-o", "s.parquet")
    didact(
        "select",
        chats,
        "--scores",
        "s.parquet",
        "--method",
        "top_k",
        "--budget",
        "samples=9",
        "-o",
        "C",
    )
    command = (
        "order",
        "C",
        "--scores",
        "s.parquet",
        "--method",
        "sort",
        "-o",
        "o.parquet",
        "--set",
    )
    assert "epochs" in didact(*command, "epochs=three", code=1).stderr
    didact(*command, "interleave=no")
    meta = json.loads(pq.read_table(tmp_path / "o.parquet").schema.metadata[b"didact"])
    assert meta["settings"]["interleave"] is False


def test_a_folder_with_brackets_in_its_name(didact, chats, tmp_path):
    (tmp_path / "run.yaml").write_text(f"data: {{path: {chats}}}\n")
    assert "R[/b]x/report.html" in didact("run", "run.yaml", "-o", "R[/b]x").stdout


def test_version_and_help(didact):
    start = [sys.executable, "-m", "didact.cli"]
    # how quick they are is in benchmarks/; that help imports no arrays, in tests/architecture
    assert didact("--version", start=start).stdout.startswith("didact ")
    assert "inspect" in didact("--help", start=start).stdout


def test_our_bugs_exit_with_3(tmp_path, chats):
    code = (
        "import didact.inspection as i, sys; from didact import cli\n"
        "def broken(pool): raise RuntimeError('boom')\n"
        "i.inspect_pool = broken\n"
        "sys.argv = ['didact', 'inspect', sys.argv[1]]\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(chats)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "this is a bug in didact" in done.stderr


def test_a_file_of_the_users_is_never_written_over(didact, chats, tmp_path):
    before = chats.read_bytes()
    done = didact("score", chats, "--method", "length", "-o", chats, code=1)
    assert "is no table of didact's" in done.stderr
    assert chats.read_bytes() == before
    for _ in range(2):  # our own table may be made again
        didact("score", chats, "--method", "length", "-o", "s.parquet")
    didact(
        "select",
        chats,
        "--scores",
        "s.parquet",
        "--method",
        "top_k",
        "--budget",
        "samples=9",
        "-o",
        "C",
    )
    didact("order", "C", "--method", "keep", "-o", chats, code=1)
    assert chats.read_bytes() == before


def test_an_empty_selection_is_said(didact, chats):
    didact("score", chats, "--method", "length", "-o", "s.parquet")
    done = didact(
        "select",
        chats,
        "--scores",
        "s.parquet",
        "--method",
        "top_k",
        "--budget",
        "ratio=0.001",
        "-o",
        "C",
    )
    assert "nothing was chosen" in done.stderr


def test_a_run_folder_inside_the_pools_folder_is_no_data(didact, chats, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "pool.jsonl").write_bytes(chats.read_bytes())
    (tmp_path / "run.yaml").write_text("data: {path: folder}\n")
    first = didact("run", "run.yaml", "-o", "folder/OUT", "--json").stdout
    again = json.loads(didact("run", "run.yaml", "-o", "folder/OUT", "--json").stdout)
    assert again["inputs"] == json.loads(first)["inputs"]
    assert all(s["measured"]["reused"] for s in again["stages"])


def test_what_json_cannot_hold_is_said(didact, tmp_path):
    import pyarrow as pa

    table = pa.table({"text": ["one", "two"], "raw": pa.array([b"\xff", b"x"]), "n": [1, 2]})
    pq.write_table(table, tmp_path / "pool.parquet")
    (tmp_path / "run.yaml").write_text("data: {path: pool.parquet}\n")
    jsonl = didact("run", "run.yaml", "-o", "A", "--set", "export.format=jsonl").stdout
    assert "only as text or less exactly: raw;" in jsonl
    assert "less exactly" not in didact("run", "run.yaml", "-o", "B").stdout
    assert pq.read_table(tmp_path / "B" / "train.parquet").equals(table)
    done = didact("export", "pool.parquet", "--order", "B", "-o", "C", "--set", "format=jsonl")
    assert "less exactly: raw;" in done.stderr


def test_dedup_writes_what_stays_and_shows_what_went(didact, tmp_path):
    one, other = (" ".join(f"{word}{i}" for i in range(80)) for word in "ab")
    texts = [one, f"\x1b[2J {one} [bold]end[/]", one, other, "alone", 7]
    rows = [{"id": f"r{i}", "text": text, "n": i} for i, text in enumerate(texts)]
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    refused = didact("dedup", path, "-o", "D", code=1)
    assert "on_bad_row" in refused.stderr
    assert not (tmp_path / "D").exists()
    skip = ("--data", "on_bad_row=skip")
    done = didact("dedup", path, "-o", "D", *skip)
    assert "\x1b" not in done.stdout
    assert "\\x1b[2J a0 a1" in done.stdout
    assert "3 rows (1 exact, 1 near; pool 3)" in done.stdout
    assert "1 row was left out" in done.stdout
    kept = (tmp_path / "D" / "train.jsonl").read_bytes().splitlines()
    assert kept == [orjson.dumps(rows[i]) for i in (0, 3, 4)]
    told = didact("dedup", path, "-o", "D", *skip, "--keep", "n", "--json")
    found = json.loads(told.stdout)
    assert (found["rows"], found["exact_copies"], found["near_copies"]) == (5, 1, 1)
    assert (found["rows_kept"], found["clusters"]) == (3, 1)
    assert [one["row"] for one in found["largest"][0]["samples"]] == [2, 1]
    assert found["cpu_seconds"] > 0
    kept = (tmp_path / "D" / "train.jsonl").read_bytes().splitlines()
    assert kept == [orjson.dumps(rows[i]) for i in (2, 3, 4)]
    other = didact("dedup", path, "-o", "E", *skip, "--for", "trl", "--set", "shards=3")
    assert (tmp_path / "E" / "settings").is_dir()
    assert "E/train-00002-of-00003.jsonl" in other.stdout
    for words, message in (
        (("--for", "trol"), "Input should be 'none'"),
        (("--similarity", "0.3"), "similarity"),
        (("--set", "shingle=3"), "--set shingle: unknown setting"),
        (("--keep", "longets"), "none of first, longest"),
    ):
        assert message in didact("dedup", path, "-o", "F", *skip, *words, code=1).stderr
    assert not (tmp_path / "F").exists()
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert "no sample to use" in didact("dedup", "empty.jsonl", "-o", "F", code=1).stderr
