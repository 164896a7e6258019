"""`didact law` over a CSV: tables, exit codes, files, errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import didact
from didact.cli import app, main
from didact.core.errors import ConfigError


def table(folder, slope, *, n=16, noise=0.01, name="runs.csv"):
    """Sets whose performance goes with R by a slope."""
    rng = np.random.default_rng(1)
    lines = ["run,set,seed,family,ratio,first_epoch_loss,performance,mean_length,similarity"]
    for i in range(n):
        ratio, loss, length = rng.uniform(1.5, 3), rng.uniform(2, 3), np.exp(rng.uniform(4, 6))
        for seed in (1, 2):
            performance = slope * ratio - 2 + noise * rng.normal()
            lines.append(
                f"r{i}-{seed},s{i},{seed},f{i % 6},{ratio},{loss},{performance},{length},"
                f"{rng.uniform()}"
            )
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("slope", "n", "verdict", "code"),
    [(-0.3, 16, "holds", 0), (0.3, 16, "fails", 4), (-0.3, 7, "cannot_tell", 5)],
)
def test_the_exit_code_is_the_verdict_of_ratio(tmp_path, slope, n, verdict, code):
    path = table(tmp_path, slope, n=n)
    done = CliRunner().invoke(app, ["law", str(path), "--json"])
    assert done.exit_code == code
    found = json.loads(done.stdout)
    assert found["verdict"] == verdict
    assert found == json.loads(json.dumps(didact.law(path).to_json()))
    said = CliRunner().invoke(app, ["law", str(path)])
    assert said.exit_code == code
    assert found["sentences"][0] in said.stdout


def test_what_is_printed_and_written(tmp_path):
    path = table(tmp_path, -0.3)
    path.write_text(
        path.read_text().replace("similarity\n", "similarity,dose\n", 1)
        .replace("\nr0-1,s0,1", "\nd,f0+copies4,1").replace("\nr0-2,s0,2", "\nd2,f0+copies4,2")
    )  # fmt: skip
    lines = path.read_text().splitlines()
    dosed = [line + (",copies×4" if line.startswith("d") else ",") for line in lines[1:]]
    path.write_text("\n".join([lines[0], *dosed]) + "\n")
    done = CliRunner().invoke(app, ["law", str(path), "-o", str(tmp_path / "LAW")])
    assert done.exit_code == 0
    for said in (
        "R: the law holds on these sets.", "rival: constant", "rival: length and similarity",
        "At equal R a higher L is worse.", "f0+copies4", "rule: On natural sets alone",
    ):  # fmt: skip
        assert said in done.stdout
    values = json.loads((tmp_path / "LAW" / "law.json").read_text())
    assert values["doses"][0]["dose"] == "copies×4"
    assert (tmp_path / "LAW" / "law.html").read_text().startswith("<!DOCTYPE html>")


def test_several_tables_are_one(tmp_path):
    first = table(tmp_path, -0.3)
    lines = first.read_text().splitlines(keepends=True)
    halves = [tmp_path / "a.csv", tmp_path / "b.csv"]
    halves[0].write_text("".join(lines[:17]))
    halves[1].write_text("".join([lines[0], *lines[17:]]))
    assert didact.law(halves) == didact.law(first)


def test_settings_of_run_folders_do_nothing_beside_a_table(tmp_path):
    with pytest.raises(ConfigError, match="do nothing beside a CSV"):
        didact.law(table(tmp_path, -0.3), file="held_out.jsonl")


def test_a_mistake_is_a_sentence(tmp_path, monkeypatch, capsys):
    path = table(tmp_path, -0.3)
    path.write_text(path.read_text().replace("r3-1,s3,1,f3,", "r3-1,s3,1,f3,x"))
    monkeypatch.setattr(sys, "argv", ["didact", "law", str(path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "runs.csv:8: ratio is 'x" in said
    assert "Traceback" not in said


def test_the_docs_have_the_table_of_the_recorded_runs():
    root = Path(__file__).resolve().parents[2]
    found = didact.law(root / "benchmarks" / "results" / "entropy_law.csv")
    page = (root / "docs" / "entropy-law.md").read_text("utf-8").replace("−", "-")
    for name, feature, verdict in (
        ("R", "ratio", found.verdict),
        ("L", "first_epoch_loss", found.verdict_loss),
    ):
        own = [f for f in found.fits if f.features == (feature,)]
        fits = own if name == "R" else [f for f in found.fits if feature in f.features]
        error = min(f.loo_rmse for f in fits if f.loo_rmse is not None)
        constant, length = (
            min(r.loo_rmse for r in found.rivals if r.name == rival and r.loo_rmse is not None)
            for rival in ("constant", "length and similarity")
        )
        partial = f"{own[0].partial:.2f}, {own[0].low:.2f} to {own[0].high:.2f}"
        errors = " | ".join(f"{e:.3f}" for e in (error, constant, length))
        assert f"| {name} | {partial} | {errors} | {verdict.replace('_', ' ')} |" in page
    for dose in found.doses:
        numbers = (
            f"{n:.3f}".replace("-0.000", "0.000") for n in (dose.performance, dose.low, dose.high)
        )
        assert "{}, {} to {} |".format(*numbers) in page
