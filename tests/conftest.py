"""Shared fixtures: a cache of the test's own, a small pool of chats, the real data if it is there."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
REAL = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIDACT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it skip cleanly without it."""
    if not REAL.is_dir():
        pytest.skip("the real data is not on this machine")
    return REAL


def chat_rows(n: int) -> list[dict[str, object]]:
    """Chats of growing length from three sources, every tenth one a copy of the one before."""
    words = [
        "apple",
        "bread",
        "cloud",
        "dune",
        "ember",
        "frost",
        "glade",
        "harbor",
        "iron",
        "jade",
        "kite",
        "lamp",
    ]
    rows: list[dict[str, object]] = []
    for i in range(n):
        j = i - 1 if i % 10 == 9 else i
        text = " ".join(words[(j * k) % 12] for k in range(1, 4 + j % 40))
        rows.append(
            {
                "id": f"row-{i}",
                "messages": [
                    {"role": "user", "content": f"question {j}: {text}"},
                    {"role": "assistant", "content": f"answer {j * 7}: {text[::-1]}"},
                ],
                "source": ["web", "books", "code"][i % 3],
                "meta": {"score": (i * 37 % 101) / 100},
            }
        )
    return rows


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """300 chats as a JSONL file."""
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in chat_rows(300)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target set with two tasks."""
    path = tmp_path / "target.jsonl"
    rows = [
        {"text": "apple bread cloud", "task": "fruit"},
        {"text": "iron jade lamp question 12", "task": "metal"},
    ]
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return path
