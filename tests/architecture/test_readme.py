"""The README's examples are true: its commands and its Python run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    first, *later = blocks("bash")
    (python,) = blocks("python")
    (tmp_path / "example.py").write_text(python)
    script = "\n".join(["set -e", first, "python example.py", *later])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for made in ("OUT/report.html", "OUT/manifest.json", "OUT/train.jsonl", "ordered/train.jsonl",
                 "ORDERED/train.jsonl", "ORDERED/settings/trl.yaml", "scores.parquet"):  # fmt: skip
        assert (tmp_path / made).stat().st_size > 0
    # verbs and Python say the same thing only where they were asked the same thing
    assert "order: method.name changed from 'shuffle' to 'fold'" in done.stderr


def test_the_yaml_example_is_a_valid_config():
    from didact.config import parse, parse_yaml

    (example,) = blocks("yaml")
    assert parse(parse_yaml(example)).seed == 17
