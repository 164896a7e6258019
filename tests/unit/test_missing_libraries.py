"""Without the extras, scorers that need them say which to install."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import didact
from didact.core import registry
from didact.core.budget import Budget
from didact.core.errors import MissingDependencyError
from didact.testing import chat, make_pool

REAL = importlib.util.find_spec


@pytest.mark.parametrize(
    ("library", "method", "extra"),
    [
        ("torch", "perplexity", "models"),
        ("torch", "ifd", "models"),
        ("peft", "less", "models"),
        ("transformers", "lqs", "models"),
        ("torch", "pds", "models"),
        ("safetensors", "rds", "models"),
        ("sentence_transformers", "embedding", "embed"),
        ("model2vec", "static_embedding", "embed"),
    ],
)
def test_the_message_has_the_command(library, method, extra, tmp_path, monkeypatch):
    pool = make_pool([chat("a", "What?", "This.")], tmp_path)

    def without(name, package=None):
        return None if name == library else REAL(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'didact\[{extra}\]'"):
        didact.score(pool, method, target=pool, model=str(tmp_path))
    if method != "static_embedding":
        with pytest.raises(MissingDependencyError, match=rf"didact\[{extra}\]"):
            registry.find("scorers", method)(model=str(tmp_path)).estimate(pool.stats, pool.stats)


@pytest.mark.parametrize(
    ("library", "method", "settings", "extra"),
    [
        ("rensa", "top_k", {"near_duplicates": {}}, "dedup"),
        ("rensa", "round_robin", {"near_duplicates": {}}, "dedup"),
        ("rensa", "zip", {"near_duplicates": {}}, "dedup"),
        ("numba", "feature_based", {}, "fast"),
        ("numba", "shingle_novelty", {}, "fast"),
    ],
)
def test_selectors_say_it_too(library, method, settings, extra, tmp_path, monkeypatch):
    pool = make_pool([chat("a", "What?", "This.")], tmp_path)
    target = make_pool([chat("b", "What?", "That.", task="t")], tmp_path, name="target")
    scores = didact.score(pool, "bm25", target=target)

    def without(name, package=None):
        return None if name == library else REAL(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'didact\[{extra}\]'"):
        didact.select(pool, scores, method, budget=Budget(samples=1), **settings)


def test_a_plan_needs_no_extra_and_says_what_it_left_out(monkeypatch):
    def without(name, package=None):
        return None if name in {"torch", "numba", "model2vec"} else REAL(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    plan = didact.plan(samples=300_000, mean_tokens=350, model="70B", budget=4e18)
    planned = {scoring.method for scoring in plan.scoring}
    assert {"random", "bm25", "zip", "embedding", "perplexity", "less", "lqs"} <= planned
    for method in ("feature_based", "shingle_novelty"):
        assert method not in planned
        (said,) = (note for note in plan.notes if note.startswith(f"{method} is left out"))
        assert "pip install 'didact[fast]'" in said


def test_dedup_says_it_too(tmp_path, monkeypatch):
    pool = make_pool([chat("a", "What?", "This.")], tmp_path)

    def without(name, package=None):
        return None if name == "rensa" else REAL(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(MissingDependencyError, match=r"dedup needs rensa: pip install 'didact\[de"):
        didact.dedup(pool)


def test_every_method_can_be_looked_at_without_numba():
    code = """
import sys
sys.modules["numba"] = None
from didact.core import registry
for group in ("scorers", "selectors", "orderers"):
    for name in registry.known(group):
        registry.find(group, name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
