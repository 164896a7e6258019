"""What people give to `didact.plan`: counts, kinds, folders; and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import didact
from didact.core.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("given", "samples"),
    [
        ("300k", 300_000),
        ("300,000", 300_000),
        (300_000, 300_000),
        ("1.5M", 1_500_000),
        ("1e3", 1000),
    ],
)
def test_numbers_of_samples(given: str | int, samples: int) -> None:
    plan = didact.plan(samples=given, mean_tokens=350, model="7B", budget=1e20, methods=["bm25"])
    assert plan.question["pool"]["samples"] == samples


@pytest.mark.parametrize("given", ["1,5M", "30,5k", "1.5", "0", "-5", "many", "1e400", 0.5])
def test_what_is_no_number_of_samples(given: str) -> None:
    with pytest.raises(ConfigError, match="expected a number of samples, such as 300000 or 300k"):
        didact.plan(samples=given, mean_tokens=350, model="7B", budget=1e20)


def test_files_say_their_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not both: files say their kind"):
        didact.plan(tmp_path / "pool.jsonl", kind="pair", model="7B", budget=1e20)


def test_a_folder_that_is_no_models(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.json: there is none; expected a model's folder"):
        didact.plan(samples="1k", mean_tokens=350, model=str(tmp_path), budget=1e20)
