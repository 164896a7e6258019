"""Commands that pages show with names of the reader's own (`sh`, `console`) do run.

Blocks of `bash` run as they stand, in `test_docs.py`. These here name files and models that only the
reader has: they run in a folder that has them, each command once, whatever the number of pages.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import orjson
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# what a page's words stand for here: encoders of the hub, and sizes for pools of thousands
HERE = {
    "params 3M": "params 300k", "params=3M": "params=300k", "steps=50": "steps=4",
    "max_steps=100": "max_steps=3",
    "sentence-transformers/all-MiniLM-L6-v2": "encoder", "minishlab/potion-base-8M": "static",
    "samples=10000": "samples=20", "samples=500": "samples=20", "samples=200": "samples=20",
    "tokens=2e6": "tokens=500", "k1=1000": "k1=20", "k2=100": "k2=5", "k3=50": "k3=5",
    "max_length=2048": "max_length=256",
}  # fmt: skip
# where other commands run, or why they cannot
ELSEWHERE = {
    "didact law random=A1": "of runs that were trained: tests/e2e/test_law.py",
    "didact --install-completion": "writes into the home: tests/unit/cli/test_completion.py",
    "accelerate launch": "several devices: tests/e2e/test_train.py",
    "/train_trl.py MODEL": "tests/e2e/test_trainers.py",
    "python -m pytest test_my_methods.py": "test_docs.py runs that file",
    "didact demo -o demo": "docs/train-and-evaluate.md",
    "awk 'NR": "test_docs_compare.py runs that page",
    "didact compare": "likewise",
    "didact plan --pool pool.jsonl --target target.jsonl --model OUT": "likewise",
    "://": "buckets and the hub: tests/e2e/test_remote.py",
    "--executor ray": "tests/e2e/test_cluster.py",
    "ray st": "of several machines, likewise",
    "kubectl": "a cluster on Kubernetes, which the page says was not run",
    "docker": "not to be had everywhere; the Dockerfile is checked by `make check`",
}


def shown() -> list[str]:
    """Each command of a block with another mark than `bash`, once, without its prompt."""
    lines = [
        line.removeprefix("$ ")
        for page in PAGES
        for language, body in BLOCK.findall(page.read_text("utf-8"))
        for line in body.replace("\\\n", " ").splitlines()
        if language == "sh" or (language == "console" and line.startswith("$ "))
    ]
    lines = [" ".join(line.split()) for line in (line.split(" #")[0] for line in lines)]
    return [line for line in dict.fromkeys(lines) if line]


def elsewhere(line: str) -> bool:
    return any(part in line for part in ELSEWHERE)


def test_every_command_is_one_that_is_tried_or_known_to_run_elsewhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for line in shown():
        first, *words = shlex.split(line)
        if first == "pip":
            extras = [e for part in re.findall(r"\[(.*?)\]", line) for e in part.split(",")]
            assert set(extras) <= set(project["optional-dependencies"]), line
        elif first == "make":
            assert words[0] in targets, line
        else:
            assert first == "didact" or elsewhere(line), line
    for part in ELSEWHERE:  # nothing is excused that no page shows
        assert any(part in line for line in shown()), part


def as_here(line: str) -> str:
    for there, here in HERE.items():
        line = line.replace(there, here)
    return line


@pytest.fixture
def place(tmp_path, chats, target, tiny_model, tiny_encoder, tiny_static) -> Path:
    """A folder with all that the pages name."""
    import didact

    (tmp_path / "models").mkdir()
    for name, folder in (
        ("models/judge", tiny_model), ("MODEL", tiny_model),
        ("encoder", tiny_encoder), ("static", tiny_static),
    ):  # fmt: skip
        (tmp_path / name).symlink_to(folder)
    rows = chats.read_bytes().splitlines(keepends=True)[:40]
    chats.write_bytes(b"".join(rows))
    graded = [{**orjson.loads(row), "grade": i % 6} for i, row in enumerate(rows[:30])]
    (tmp_path / "graded.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in graded))
    (tmp_path / "clean.txt").write_text("A cat sat on the mat.\nSo did a dog.\n" * 9)
    arpa = REPOSITORY / "tests/reference/ngram_lm/order3.arpa"
    (tmp_path / "en.arpa.gz").write_bytes(gzip.compress(arpa.read_bytes()))
    (tmp_path / "draw.yaml").write_text(
        "data: {path: pool.jsonl}\nscore: {method: random}\n"
        "select: {method: top_k, budget: {samples: 20}}\norder: {method: keep}\n"
    )
    pool = didact.read(chats)
    scores = didact.score(pool, "length")
    chosen = didact.select(pool, scores, "top_k", budget=didact.Budget(samples=16))
    order = didact.order(pool, chosen, scores, "sort")
    from didact.data import tables

    tables.write_scores(scores, pool, tmp_path / "scores.parquet")
    ids = [str(pool.ids[int(row)]) for row in order.rows]
    for name in ("order.parquet", "FIRST/order.parquet"):
        tables.write_order(order, ids, tmp_path / name)
    (tmp_path / "ids.jsonl").write_bytes(b"".join(orjson.dumps(i) + b"\n" for i in ids))
    return tmp_path


@pytest.mark.slow
def test_the_commands_run(place, warm):
    pytest.importorskip("accelerate")
    lines = [line for line in shown() if line.startswith("didact ") and not elsewhere(line)]
    # what others need comes first: models, then what is trained
    verbs = ["didact proxy", "didact train"]
    lines.sort(key=lambda line: next((i for i, v in enumerate(verbs) if line.startswith(v)), 9))
    libraries = ["didact.training.loop", "transformers.models.llama.modeling_llama"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with warm(["didact.cli.printing", "didact.pipeline", *libraries], env) as words:
        for line in (as_here(line) for line in lines):
            out = place / line.partition(" -o ")[2].split(" ")[0]
            if out != place and out.is_dir():  # what another page made under this name
                shutil.rmtree(out)
            done = subprocess.run(
                [*words, *shlex.split(line)[1:]], cwd=place, env=env, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
