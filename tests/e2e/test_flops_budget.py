# ruff: noqa: E402 - what needs torch is imported where it is there
"""A budget of FLOPs: scoring and training together keep to it, and use it."""

from __future__ import annotations

import json
import re

import orjson
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from typer.testing import CliRunner

import didact
from didact import pipeline
from didact.cli.app import app
from didact.core.errors import BudgetError, ConfigError
from didact.data import tables
from didact.models.proxy import new_proxy
from didact.training.telemetry import read_steps
from didact.training.trained import read_trained


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def chat(i, source):
    return {
        "id": f"{source}{i}", "source": source,
        "messages": [{"role": "user", "content": f"say {i} {'again ' * (i * 7 % 11)}"},
                     {"role": "assistant", "content": f"here you are: {i} from {source}"}],
    }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pool of 120 chats, a proxy to score with and train, a cache."""
    folder = tmp_path_factory.mktemp("flops")
    rows = b"".join(orjson.dumps(chat(i, "ab"[i % 2])) + b"\n" for i in range(120))
    (folder / "pool.jsonl").write_bytes(rows)
    pool = didact.read(folder / "pool.jsonl", cache_dir=folder / "cache")
    new_proxy(folder / "proxy", pool, params="60k", vocab=320, context=128)
    return folder


def config_of(place, flops, **change):
    return {
        "seed": 3,
        "data": {"path": str(place / "pool.jsonl")},
        "score": {"method": "perplexity", "model": str(place / "proxy"), "device": "cpu"},
        "select": {"method": "top_k", "budget": {"flops": flops}},
        "order": {"method": "fold", "layers": 2, "epochs": 2, "batch_size": 8},
        "train": {"model": str(place / "proxy"), "learning_rate": 5e-3, "device": "cpu",
                  "lora_rank": 4},
        "export": {"for": "trl"},
        **change,
    }  # fmt: skip


@pytest.fixture(scope="module")
def done(place):
    return didact.run(config_of(place, 2.4e9), place / "OUT", cache_dir=place / "cache")


def bills(done):
    return {stage.name: stage.measured.bill for stage in done.manifest.stages}


def check_kept(done, flops):
    """Never over; what is unused is 2 % at most, or less than the step that was not done."""
    found = bills(done)
    unused = flops - found["score"].value.flops - found["train"].own.flops
    (note,) = (n for n in done.manifest.stage("train").notes if n.startswith("ended at step"))
    assert found["score"].value.flops > 0.1 * flops
    assert 0 <= unused <= max(0.02 * flops, float(note.rsplit(" ", 1)[1]))
    return read_steps(done.folder / "model"), note


def test_scoring_and_training_keep_to_it_and_use_it(done):
    steps, note = check_kept(done, 2.4e9)
    assert {step.epoch for step in steps} == {1, 2}
    record = done.manifest.stage("select")
    scoring = bills(done)["score"].value.flops
    assert record.notes[-2].startswith(f"budget flops=2.4e+09: scoring {scoring:.4g} (")
    assert "FLOPs in 2 epochs" in record.notes[-1]
    assert "with padding of the configured batches: +" in record.notes[-1]
    assert 20 < record.counts["samples"] < 120
    planned = done.manifest.stage("order").counts["steps"]
    assert note.startswith(f"ended at step {len(steps)} of {planned}: the budget of ")
    assert note in (done.folder / "report.html").read_text()


def test_a_warm_cache_makes_nothing_free(done, place):
    again = didact.run(config_of(place, 2.4e9), place / "AGAIN", cache_dir=place / "cache")
    assert bills(again)["score"].charged.flops == 0
    assert bills(again)["train"].own.flops == bills(done)["train"].own.flops
    name = "selection.parquet"
    assert (again.folder / name).read_bytes() == (done.folder / name).read_bytes()


def test_a_model_from_scratch(place, tmp_path):
    scratch = {
        "model": "scratch", "params": "60k", "vocab": 320, "context": 128, "device": "cpu",
        "flops": None,
    }  # fmt: skip
    config = config_of(place, 2e9, train=scratch, order={"method": "keep", "batch_size": 8})
    out = didact.run(config, tmp_path / "OUT", cache_dir=place / "cache")
    check_kept(out, 2e9)


def plan(config, place):
    checked = pipeline.configs.parse(config)
    return pipeline.plan(checked, didact.context(cache_dir=place / "cache"))[1]


def test_a_dry_run_foresees_it(done, place):
    costs = plan(config_of(place, 2.4e9), place)
    assert costs["score"].flops + costs["train"].flops == pytest.approx(2.4e9)
    assert costs["select"].cpu_seconds > 0  # it tokenises the pool
    (place / "run.yaml").write_text(json.dumps(config_of(place, 2.4e9)))
    words = ["run", str(place / "run.yaml"), "--dry-run", "--cache-dir", str(place / "cache")]
    printed = CliRunner().invoke(app, words).stdout
    assert "budget flops=2.4e+09: scoring " in printed
    budget = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["budget"]
    assert budget["scoring"] + budget["training"] == budget["flops"] == 2.4e9


def test_what_cannot_be_is_refused_before_anything_is_scored(place, tmp_path):
    with pytest.raises(BudgetError, match="scoring is estimated to take .* smaller model"):
        plan(config_of(place, 5e8), place)
    cache = tmp_path / "cache"
    with pytest.raises(BudgetError, match=r"less than one sample .* did you mean tokens=500\?"):
        plan(config_of(place, 500, score=None, select={
            "method": "gumbel_top_k", "budget": {"flops": 500}
        }), place)  # fmt: skip
    with pytest.raises(BudgetError, match="estimated"):
        didact.run(config_of(place, 5e8), tmp_path / "OUT", cache_dir=cache)
    assert not (cache / "scores").exists()


def test_flops_that_pay_no_step_are_refused_before_anything_is_scored(place, tmp_path):
    def config(flops, **select):
        train = config_of(place, 0)["train"] | {"flops": flops}
        half = {"method": "top_k", "budget": {"ratio": 0.5}, **select}
        return config_of(place, 0, select=half, train=train)

    cache, said = tmp_path / "cache", r"train.flops=1e\+05: a step of 8 samples takes (\S+) or more"
    with pytest.raises(BudgetError, match=said) as refused:
        didact.run(config(1e5), tmp_path / "OUT", cache_dir=cache)
    assert not (cache / "scores").exists()
    least = float(re.search(said, str(refused.value))[1])
    assert plan(config(1.001 * least), place)["train"].flops == 1.001 * least
    for fewer in ({"method": "threshold", "value": 0.0}, {"quotas": {"at_most": 0.1}}):
        plan(config(1e5, **fewer), place)  # how many are chosen is not known


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train": None}, BudgetError, "needs the model that it trains: add a train section"),
        ({"train": {"model": "x", "flops": 1e9}}, ConfigError, "train.flops beside budget"),
        (
            {"select": {"method": "top_k", "budget": {"flops": 2e9}, "train": {"model": "x"}}},
            ConfigError,
            "the run has a train section",
        ),
        (
            {
                "select": {"method": "top_k", "budget": {"samples": 9}, "train": {"model": "x"}},
                "train": None,
            },
            ConfigError,
            "does nothing without a budget of flops",
        ),
    ],
)
def test_it_needs_one_training(change, error, message, place, tmp_path):
    with pytest.raises(error, match=message):
        didact.run(config_of(place, 2e9, **change), tmp_path / "OUT", cache_dir=place / "cache")


def test_a_run_without_a_training_is_told_which_one_it_is_for(done, place, tmp_path):
    later = config_of(place, 2.4e9)["train"] | {"epochs": 2, "batch_size": 8}
    select = {"method": "top_k", "budget": {"flops": 2.4e9}, "train": later}
    config = config_of(place, 0, select=select, train=None)
    out = didact.run(config, tmp_path / "OUT", cache_dir=place / "cache")
    ours, theirs = (
        tables.read_selection(run.folder / "selection.parquet").rows.tolist() for run in (out, done)
    )
    assert ours == theirs


def test_verb_by_verb_it_is_the_same(done, place, tmp_path):
    def didact_(*words):
        words = [*words, "--cache-dir", str(place / "cache"), "--json"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout), result.stderr

    pool, scores = str(place / "pool.jsonl"), str(tmp_path / "scores.parquet")
    model = str(place / "proxy")
    didact_("score", pool, "--method", "perplexity", "--set", f"model={model}",
            "--set", "device=cpu", "-o", scores, "--seed", "3")  # fmt: skip
    chosen, said = didact_(
        "select", pool, "--method", "top_k", "--scores", scores, "--budget", "flops=2.4e9",
        "--set", f"train.model={model}", "--set", "train.epochs=2", "--set", "train.lora_rank=4",
        "-o", str(tmp_path / "CHOSEN"), "--seed", "3",
    )  # fmt: skip
    ours = tables.read_selection(tmp_path / "CHOSEN").rows
    theirs = tables.read_selection(done.folder).rows
    assert ours.tolist() == theirs.tolist()
    assert "left for training" in said
    assert chosen["left_for_training"] == 2.4e9 - bills(done)["score"].value.flops
    trained, _ = didact_(
        "train", pool, "--model", model, "--order", str(done.folder), "--set", "device=cpu",
        "--set", "lora_rank=4", "--set", "learning_rate=5e-3", "--seed", "3",
        "--set", f"flops={chosen['left_for_training']!r}", "-o", str(tmp_path / "model"),
    )  # fmt: skip
    assert trained["flops"] == read_trained(done.folder / "model").cost.flops


def test_scores_that_do_not_say_what_they_took_are_counted_aloud(place, tmp_path):
    pool = didact.read(place / "pool.jsonl", cache_dir=place / "cache")
    mine = didact.Scores(
        pool.n_tokens.astype(float), higher_is_better=True, method="mine",
        pool_fingerprint=pool.fingerprint,
    )  # fmt: skip
    given = {"budget": didact.Budget(flops=1e9), "train": {"model": place / "proxy"}}
    chosen = didact.select(pool, mine, "top_k", **given)
    assert any("is not known" in note and "counted as 0" in note for note in chosen.notes)
    less = didact.select(pool, mine, "top_k", **given, spent=8e8)
    assert 0 < len(less) < len(chosen)
    assert not any("is not known" in note for note in less.notes)


def test_a_budget_below_the_first_sample_of_the_ranking_is_too_little(place):
    alone = {"score": {"method": "length", "prefer": "longest"}, "order": {"method": "keep"}}
    pool = didact.read(place / "pool.jsonl", cache_dir=place / "cache")
    trained = {"model": place / "proxy", "lora_rank": 4, "device": "cpu"}
    shortest = didact.score(pool, "length", prefer="shortest")
    least = 1e5
    while True:  # what the shortest sample takes, doubled from below
        try:
            chosen = didact.select(
                pool, shortest, "top_k", budget=didact.Budget(flops=least), train=trained
            )  # fmt: skip
        except BudgetError:
            least *= 1.2
            continue
        break
    assert len(chosen) == 1
    with pytest.raises(BudgetError, match="the first sample of the ranking takes more"):
        didact.run(
            config_of(place, least, **alone), place / "TOO", cache_dir=place / "cache"
        )  # fmt: skip
