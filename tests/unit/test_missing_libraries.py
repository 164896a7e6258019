"""Without the extras, scorers that need them say which to install."""

from __future__ import annotations

import importlib.util

import pytest

import didact
from didact.core import registry
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
