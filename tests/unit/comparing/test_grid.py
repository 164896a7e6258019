"""What a grid may say; every refusal names the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from didact.cli.app import app
from didact.comparing.compare import compare
from didact.comparing.grid import parse_grid, read_grid
from didact.comparing.settings import settings_of
from didact.comparing.template import TEMPLATE, write_template
from didact.core.errors import ConfigError, DataError
from didact.plans import plan


def words(**more):
    return {"name": "words", "score": {"method": "bm25"}, **more}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bugdets": [1]}, "unknown setting 'bugdets'; did you mean 'budgets'"),
        ({"tell_on": []}, "tell_on: List should have at least 1 item"),
        ({"budgets": [0.5, -1]}, "budgets.1: Input should be greater than 0"),
        ({"budgets": [0.5, 0.5]}, "budgets: 0.5 is given twice; remove one"),
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        ({"choose_on": ["test.jsonl"]}, "tell_on: test.jsonl is in choose_on, too"),
        ({"arms": [words(), words()]}, "'words' is the name of two"),
        ({"arms": [words(name="all")]}, "'all': is the name of an arm that is always there"),
        ({"arms": [words(name="random")]}, "'random': is the name of random samples"),
        ({"arms": [words(score={"method": "random"})]}, "random samples are always there"),
        ({"arms": [{"name": "none"}]}, "has neither score nor select"),
        ({"arms": [words(scores={})]}, "arms.0: unknown|unknown setting 'arms.0.scores'"),
        ({"arms": [words(select={"method": "top_k", "budget": {"ratio": 0.1}})]},
         "select.budget: the budgets are the grid's"),
        ({"arms": [words(select={"train": {"model": "m"}})]}, "select.train: is that of the run"),
        ({"arms": [words(train={"flops": 1e9})]}, "train.flops: is the grid's to say"),
        ({"train": {"model": "other"}}, "my.yaml: train.model: is the grid's base; leave it out"),
        ({"train": {"flops": 1e9}}, "my.yaml: train.flops: is the grid's to say"),
        ({"train": {"max_steps": 9}}, "my.yaml: train.max_steps: is the grid's to say"),
        ({"order": {"method": "shuffle", "epochs": 3}}, "my.yaml: order.epochs: see the grid's"),
        ({"arms": [words(order={"epochs": 2})]}, "order.epochs: see the grid's epochs"),
        ({"axes": {"learning_rate": [1]}}, "'learning_rate' is no key of an arm"),
        ({"axes": {"select.budget": [1]}}, "axes: select.budget: the budgets are the grid's"),
        ({"axes": {"select.budget.ratio": [1]}}, "axes: select.budget.ratio: the budgets are"),
        ({"axes": {"train.max_steps": [9]}}, "axes: train.max_steps: is the grid's to say"),
        ({"axes": {"train.learning_rate": [1e-3, 1e-3]}}, "has a value twice"),
        ({"axes": {"train.learning_rate": [1e-3, 1e-4]}}, "choose_on: the axis train.learning"),
        ({"epochs": "fill"}, "epochs: fill and fraction go together"),
        ({"fraction": 0.1}, "epochs: fill and fraction go together"),
        ({"evaluate": {"files": []}}, "evaluate.files: is the grid's to say"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(grid, change, said):
    with pytest.raises(ConfigError) as error:
        parse_grid(grid(**change), "my.yaml")
    assert str(error.value).startswith("my.yaml: ")
    assert any(part in str(error.value) for part in said.split("|")), error.value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arms": [words(score={"method": "bm52"})]}, "bm52"),
        ({"arms": [words(score={"method": "bm25", "k_1": 1})]}, "words: score.bm25: unknown"),
        ({"train": {"learning_rat": 1}}, "learning_rat"),
        ({"target": None}, "words: bm25 needs a target set, the samples to select for; give"),
        ({"axes": {"score.window": [1]}}, "score.window: no arm has it"),
        ({"axes": {"base": ["a/x", "b/x"]}}, "two values are both written 'base=x'"),
    ],
)
def test_sections_are_checked_before_anything_is_read(grid, change, said):
    with pytest.raises(ConfigError, match=r"^my\.yaml: ") as error:
        settings_of(parse_grid(grid(**change), "my.yaml"), "my.yaml")
    assert said in str(error.value)


def test_the_template_is_a_grid(tmp_path):
    write_template(tmp_path / "grid.yaml")
    grid, where = read_grid(tmp_path / "grid.yaml")
    assert where == str(tmp_path / "grid.yaml")
    assert [arm.name for arm in grid.arms] == ["bm25", "compression"]
    assert settings_of(grid, "x")
    with pytest.raises(ConfigError, match="exists; choose another name"):
        write_template(tmp_path / "grid.yaml")
    # what stands in comments is right, too
    lines = [line.replace("# ", "", 1) if line.startswith(("# ", "  # ")) else line
             for line in TEMPLATE.splitlines()[6:]]  # fmt: skip
    text = "\n".join(
        line
        for line in lines
        if line != "base: BASE                    "
        "# a model to start every training from: a folder or a hub name"
    )
    (tmp_path / "all.yaml").write_text(text)
    whole, _ = read_grid(tmp_path / "all.yaml")
    assert whole.fraction == 0.05
    assert list(whole.axes) == ["train.learning_rate"]
    assert whole.base["train"]["model"] == "scratch"
    assert len(settings_of(whole, "x")) == 1 + 2 * (2 + len(whole.arms))


def test_a_pilot_is_a_grid():
    found = plan(samples="60k", mean_tokens=900, kind="pair", model="8B", budget="2e18")
    assert found.pilot is not None
    assert parse_grid(found.pilot.grid).budgets == found.pilot.grid["budgets"]


def test_the_grid_of_the_docs(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "compare.md").read_text("utf-8")
    (tmp_path / "grid.yaml").write_text(page.partition("```yml\n")[2].partition("```")[0])
    labels = [s.label for s in settings_of(*read_grid(tmp_path / "grid.yaml"))]
    assert labels == ["base", "all", "random", "bm25", "compression"]


def test_the_command_line_writes_one_and_refuses_two_ways_at_once(tmp_path):
    done = CliRunner().invoke(app, ["compare", "init", "-o", str(tmp_path / "grid.yaml")])
    assert done.exit_code == 0, done.output
    assert read_grid(tmp_path / "grid.yaml")[0].arms
    words = ["compare", str(tmp_path / "grid.yaml"), "-o", str(tmp_path / "OUT")]
    for more in (
        ["--export-only", "trl", "--results", "r.csv"], ["--so-far", "--results", "r.csv"],
        ["--export-only", "trl", "--dry-run"], ["--results", "r.csv", "--max-hours", "1"],
        ["--so-far", "--jobs", "2"],
    ):  # fmt: skip
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 2, more
        assert all(word in done.output for word in more if word.startswith("--")), done.output
    assert not (tmp_path / "OUT").exists()


def test_so_far_makes_nothing_where_nothing_is_done(grid, tmp_path):
    with pytest.raises(DataError, match="no run is done there; run it without --so-far first"):
        compare(grid(base={"data": {"path": "x.jsonl"}}), tmp_path / "OUT", so_far=True)
    assert not (tmp_path / "OUT").exists()
