"""The page on comparing runs as it stands: on fewer rows, with a smaller model and two seeds."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from didact.planning.comparison import Comparison

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compare.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# what the page's words stand for here
HERE = {
    "NR % 10 == 1": "NR % 300 == 1", "NR % 10 != 1": "NR % 100 == 2",
    "params: 300k, vocab: 1024, context: 128": "params: 20k, vocab: 300, context: 64",
    "seeds: [0, 1, 2]": "seeds: [0, 1]", "learning_rate: 3e-4": "learning_rate: 1e-2",
    "NR % 3 != 1": "NR % 9 == 2",
}  # fmt: skip
LIBRARIES = (
    "didact.cli.compare_tables", "didact.comparing.compare", "didact.plans", "didact.training.loop",
    "didact.evaluation.evaluate", "transformers.trainer", "transformers.models.llama.modeling_llama",
)  # fmt: skip


def as_here(text: str) -> str:
    for there, here in HERE.items():
        text = text.replace(there, here)
    return text


@pytest.mark.slow
def test_the_page_on_comparing_runs(tmp_path, warm):
    pytest.importorskip("accelerate")
    page = PAGE.read_text("utf-8")
    assert all(there in page for there in HERE)  # nothing is replaced that the page has not
    found = BLOCK.findall(as_here(page))
    (grid,) = (body for language, body in found if language == "yml")
    files, own, elsewhere = (body for language, body in found if language == "sh")
    (tmp_path / "grid.yaml").write_text(grid)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "DIDACT_CACHE": str(tmp_path / "cache")}
    with warm(LIBRARIES, env) as words:
        tool = tmp_path / "tools" / "didact"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        tool.chmod(0o755)
        env["PATH"] = f"{tool.parent}{os.pathsep}{env['PATH']}"

        def run(script):
            done = subprocess.run(
                ["bash", "-ec", script], cwd=tmp_path, env=env, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            return done.stdout

        run(files)
        said = run(own)
        assert "law, one base for all methods (used here)" in said  # the plan is of the comparison
        assert compared(tmp_path / "OUT") == {"base", "all", "random", "bm25", "compression"}
        assert "<svg" in (tmp_path / "OUT" / "comparison.html").read_text()
        first, second = elsewhere.splitlines()
        run(first)
        fill(tmp_path / "ELSEWHERE" / "results.csv", tmp_path / "results.csv")
        run(second)
        assert compared(tmp_path / "ELSEWHERE") == compared(tmp_path / "OUT")


def compared(folder: Path) -> set[str]:
    """The arms of a comparison that have values."""
    found = Comparison.from_json(json.loads((folder / "comparison.json").read_text()))
    return {arm.name for arm in found.arms if arm.feasible}


def fill(template: Path, out: Path) -> None:
    """The values of runs that were made elsewhere."""
    with template.open() as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        row |= {"value": f"{2 + 0.01 * i}", "higher_is_better": "false"}
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
