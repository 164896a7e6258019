"""A pool of small sums, and a place for its cache that outlives a test."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

import didact
from didact.core.pool import Pool


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models this small lose time to threads, and their sums differ with the number of these."""
    pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """120 chats; row 7 has no answer and so nothing to learn."""
    path = tmp_path_factory.mktemp("sums") / "pool.jsonl"
    rows = [
        {
            "id": f"sum-{i}",
            "messages": [
                {"role": "user", "content": f"{'and ' * (i % 9)}what is {i} plus {i % 13}?"},
                {"role": "assistant", "content": "" if i == 7 else f"it is {i + i % 13}."},
            ],
        }
        for i in range(120)
    ]
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return didact.read(path, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, sums: Pool) -> Path:
    """An untrained Llama of some 50,000 parameters."""
    pytest.importorskip("torch")
    from didact.models.proxy import new_proxy

    folder = tmp_path_factory.mktemp("models") / "tiny"
    return new_proxy(folder, sums, params="60k", vocab=320, context=128).path
