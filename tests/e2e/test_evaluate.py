"""`didact evaluate` through the command line, on files as users have them."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from typer.testing import CliRunner

import didact
from didact.cli import app
from didact.core.errors import ConfigError, DataError
from didact.evaluation.results import read_evaluation
from didact.testing import chat


def call(*words):
    done = CliRunner().invoke(app, ["evaluate", *(str(w) for w in words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def held_out(tmp_path):
    path = tmp_path / "held.jsonl"
    rows = [
        {**chat(f"r{i}", f"question {i}", ["yes", "no"][i % 2], source=f"s{i % 3}"),
         "choices": ["yes", "no", "perhaps"]}
        for i in range(12)
    ]  # fmt: skip
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


OWN = ("--set", "device=cpu", "--set", "dtype=float32")


def test_table_records_and_messages(held_out, tiny_model, tmp_path):
    out = tmp_path / "E.parquet"
    done = call(tiny_model, held_out, "-o", out, *OWN)
    assert "bits/byte" in done.stdout
    assert "accuracy" in done.stdout
    assert "two models are told apart over runs" in done.stdout
    assert "has no trained_on.npy" in done.stderr
    assert "0 of them now" not in done.stderr
    again = call(tiny_model, held_out, "-o", out, "--json", *OWN)
    assert "0 of them now" in again.stderr
    records = json.loads(again.stdout)
    assert records == read_evaluation(out).summary()
    assert {r["metric"] for r in records if not r["source"]} == {
        "bits_per_byte", "bits_per_byte_all", "accuracy", "chance", "accuracy_per_char",
        "answer_nats_per_char", "answer_probability", "margin",
    }  # fmt: skip


def test_overlap_is_listed_or_refused(held_out, save_llama, tmp_path):
    model = save_llama(tmp_path / "model")
    np.save(model / "trained_on.npy", np.sort(didact.read(held_out).content_hash[:2]))
    done = call(model, held_out, "--json", *OWN)
    assert "2 of 12 rows" in done.stderr
    assert "row 1 (r0), row 2 (r1)" in done.stderr
    assert json.loads(done.stdout)[0]["n"] == 10
    with pytest.raises(DataError, match="2 of 12 rows"):
        call(model, held_out, "--on-overlap", "error", *OWN)


def test_what_is_missing_is_said():
    with pytest.raises(ConfigError, match="expected MODEL and held-out FILES"):
        call()
    with pytest.raises(ConfigError, match="expected MODEL and held-out FILES"):
        call("model")
    with pytest.raises(DataError, match=r"a.parquet: no such file"):
        call("--runs", "a.parquet")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "A", "B", "-o", "E.parquet"], "-o does nothing beside --runs"),
        (["m", "f", "--lm-eval", "--set", "window=8"], "--set window does nothing beside lm-eval"),
        (["m", "f", "--lm-eval", "-o", "E.parquet"], "-o does nothing beside lm-eval"),
        (["m", "f", "--tasks", "arc_easy"], "FILES does nothing beside --tasks"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        call(*words)


def test_tasks_are_written(held_out, tiny_model, tmp_path):
    done = call(tiny_model, held_out, "--write-tasks", tmp_path / "tasks")
    assert "held_s0" in done.stderr
    assert len(list((tmp_path / "tasks").glob("*.yaml"))) == 3


@pytest.mark.parametrize(
    ("name", "choices", "chance"),
    [("gsm8k", None, None), ("csqa", "letters", 0.2), ("bbh", "letters", 0.202)],
)
def test_real_held_out_sets(name, choices, chance, real_data, save_llama, tmp_path):
    model = save_llama(tmp_path / "model", initializer_range=0.02)
    form = () if choices is None else ("--choices", choices)
    done = call(model, real_data / f"target_{name}_val.jsonl.zst", *form, "--json", *OWN)
    records = {r["metric"]: r for r in json.loads(done.stdout) if not r["source"]}
    assert records["bits_per_byte"]["low"] < records["bits_per_byte"]["high"]
    if chance is None:
        assert set(records) == {"bits_per_byte", "bits_per_byte_all"}
    else:
        assert records["chance"]["value"] == pytest.approx(chance, abs=1e-3)
        # An untrained model guesses.
        assert records["accuracy"]["low"] < chance + 0.03
        assert records["answer_probability"]["value"] == pytest.approx(chance, abs=0.05)
