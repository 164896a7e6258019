"""Plug-ins that are broken: the others stay usable, and a bug is told as theirs, with its line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

METHODS = '''\
from dataclasses import dataclass

from didact.plugins import Cost, Ranking, method, one_pass


@method("moody")
@dataclass(frozen=True, kw_only=True)
class Moody:
    """Fails where it is told to."""

    where: str = "batch"
    needs_target = False

    def estimate(self, pool, target):
        return Cost()

    def fit(self, pool, target, ctx):
        if self.where == "fit":
            raise KeyError("fit")
        return one_pass(of_batch)


def of_batch(batch):
    return 1 / 0
'''
POINTS = """\
[didact.scorers]
moody = broken_methods.moody:Moody
gone = broken_methods.gone:Gone
"""


@pytest.fixture
def didact(tmp_path):
    site = tmp_path / "site"
    package, about = site / "broken_methods", site / "broken_methods-0.1.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").write_text("")
    (package / "moody.py").write_text(METHODS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-methods\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(POINTS)
    (tmp_path / "pool.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    path = os.pathsep.join([str(site), *sys.path])

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "didact.cli", *words], cwd=tmp_path, capture_output=True,
            text=True, check=False,
            env={**os.environ, "PYTHONPATH": path, "DIDACT_CACHE": "cache", "COLUMNS": "200"},
        )  # fmt: skip

    return run


def test_a_method_that_cannot_be_imported_does_not_hide_the_others(didact):
    listed = didact("methods", "--json")
    assert listed.returncode == 0, listed.stderr
    assert '"bm25"' in listed.stdout
    assert "cannot be used: scorer 'gone' is registered as" in listed.stdout
    schema = didact("config", "schema")
    assert schema.returncode == 0, schema.stderr
    assert '"moody"' in schema.stdout
    asked = didact("methods", "gone")
    assert asked.returncode == 1
    assert "cannot be imported" in asked.stderr


def test_a_failure_in_a_batch_names_the_line(didact):
    done = didact("score", "pool.jsonl", "--method", "moody", "-o", "s.parquet")
    assert done.returncode == 1
    line = METHODS.splitlines().index("    return 1 / 0") + 1
    assert f"ZeroDivisionError: division by zero (moody.py:{line} in of_batch)" in done.stderr


def test_a_failure_elsewhere_is_called_the_plug_in_s(didact):
    words = ("--method", "moody", "--set", "where=fit", "-o", "s.parquet")
    done = didact("score", "pool.jsonl", *words)
    assert done.returncode == 3
    assert "this is a bug in the plug-in broken_methods" in done.stderr
