"""A plug-in that was edited or upgraded is another method: nothing of the old one is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
from dataclasses import dataclass
from my_plug_in.helper import FACTOR
from didact.core.cost import Cost
from didact.core.one_pass import one_pass

@dataclass(frozen=True, kw_only=True)
class Mine:
    needs_target = False
    def estimate(self, pool, target):
        return Cost()
    def fit(self, pool, target, ctx):
        return one_pass(times, ("n_bytes",))

def times(batch):
    return FACTOR * batch.column(0).to_numpy().astype(float)
"""
SCORE = """
import sys, json, didact
pool = didact.read(sys.argv[1], cache_dir=sys.argv[2])
print(json.dumps(didact.score(pool, "mine").values.tolist()))
"""


@pytest.fixture
def plug_in(tmp_path):
    site = tmp_path / "site"
    package, about = site / "my_plug_in", site / "my_plug_in-0.1.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("FACTOR = 2\n")
    (package / "mine.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plug-in\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[didact.scorers]\nmine = my_plug_in.mine:Mine\n")
    (tmp_path / "pool.jsonl").write_text('{"text": "abc"}\n{"text": "abcde"}\n')

    def score() -> list[float]:
        path = os.pathsep.join([str(site), *sys.path])
        done = subprocess.run(
            [sys.executable, "-B", "-c", SCORE, tmp_path / "pool.jsonl", tmp_path / "cache"],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        return json.loads(done.stdout)

    return package, about, score


def entries(package: Path) -> int:
    return len(list((package.parents[1] / "cache" / "scores").glob("*/entry.json")))


def test_an_edit_anywhere_in_its_package_counts(plug_in):
    package, _, score = plug_in
    assert score() == [6.0, 10.0]
    assert score() == [6.0, 10.0]
    assert entries(package) == 1  # found
    (package / "helper.py").write_text("FACTOR = 3\n")
    assert score() == [9.0, 15.0]
    (package / "mine.py").write_text(MODULE.replace("FACTOR *", "1 + FACTOR *"))
    assert score() == [10.0, 16.0]


def test_an_upgrade_counts(plug_in):
    package, about, score = plug_in
    score()
    metadata = (about / "METADATA").read_text().replace("0.1", "0.2")
    (about / "METADATA").write_text(metadata)
    score()
    assert entries(package) == 2
