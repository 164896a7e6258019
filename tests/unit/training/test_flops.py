# ruff: noqa: E402 - what needs torch is imported where it is there
"""A training that ends where its FLOPs do, and what rows take of them before it begins."""

import dataclasses
import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from didact.accounting.flops import lora_counted, training_flops
from didact.accounting.lora import lora_spec
from didact.accounting.spec import ModelSpec
from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.models.architecture import read_spec
from didact.models.encode import Encoding, encode
from didact.models.language_model import open_model, open_tokenizer
from didact.training import trainer_checkpoints
from didact.training.causal import train
from didact.training.estimate import estimate_planned
from didact.training.foresight import PlannedTraining, executed_flops, read_lengths
from didact.training.samples import Samples, StepSamples, steps_ahead
from didact.training.schedule import learning_rate_factor
from didact.training.settings import TrainSettings
from didact.training.starting import planned_training
from didact.verbs import context_of, select

QUICK = TrainSettings(batch_size=8, learning_rate=3e-3, device="cpu", max_length=96)
LORA = dataclasses.replace(QUICK, lora_rank=4)


@pytest.fixture(scope="module")
def order():
    return np.random.default_rng(0).permutation(80)


@pytest.fixture(scope="module")
def whole(sums, tiny, order, tmp_path_factory):
    return train(sums, order, tiny, tmp_path_factory.mktemp("out") / "model", QUICK)


@pytest.fixture(scope="module")
def limited(sums, tiny, order, whole, tmp_path_factory):
    settings = dataclasses.replace(QUICK, flops=0.63 * whole.cost.flops)
    return settings, train(sums, order, tiny, tmp_path_factory.mktemp("out") / "m", settings)


@pytest.mark.parametrize("devices", [1, 3])
def test_every_step_is_foretold_as_it_is_executed(sums, tiny, order, devices):
    how = Encoding(kind="chat", max_length=96)
    samples = Samples(sums, [order, order[::-1]], open_tokenizer(tiny), how)
    ahead = steps_ahead(samples, batch_size=9, steps=17, tokens_per_batch=200, devices=devices)
    assert len(ahead) == 17  # of 18
    for number, ran in enumerate(ahead):
        epoch, at = divmod(number * 9, 81)  # steps of 9 do not go over an epoch's end
        samples.set_epoch(epoch)
        items = [samples[i] for i in range(at, min(at + 9, 80))]
        assert StepSamples(items, 200, devices=devices).executed == ran


def test_it_ends_at_the_last_whole_step_that_fits(limited, whole):
    settings, done = limited
    so_far = [step.total_flops for step in whole.steps]
    paid = sum(flops <= settings.flops for flops in so_far)
    assert 1 < paid < len(so_far)
    assert len(done.steps) == paid
    assert done.cost.flops == so_far[paid - 1] <= settings.flops
    assert settings.flops - done.cost.flops < so_far[paid] - so_far[paid - 1]
    assert [s.rows for s in done.steps] == [s.rows for s in whole.steps[:paid]]
    about = json.loads((done.path / "training.json").read_text())
    assert about["foretold_flops"] == done.cost.flops
    assert about["notes"][0].startswith(f"ended at step {paid} of {len(so_far)}: the budget of ")


def test_the_schedule_is_laid_over_the_steps_that_are_done(limited):
    _, done = limited
    n = len(done.steps)
    rates = [
        3e-3 * learning_rate_factor(i, steps=n, warm_up=math.ceil(0.03 * n), schedule="cosine")
        for i in range(n)
    ]
    assert [s.learning_rate for s in done.steps] == pytest.approx(rates)


def test_killed_and_started_again_it_ends_the_same(limited, sums, tiny, order, tmp_path):
    settings, done = limited

    def die(progress):
        if progress.stage == "train" and progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(sums, order, tiny, tmp_path / "m", settings, progress=die)
    work = tmp_path / ".m.training"
    assert trainer_checkpoints.last_checkpoint(work) is not None
    again = train(sums, order, tiny, tmp_path / "m", settings)
    assert again.steps == done.steps
    weights = "model.safetensors"
    assert (again.path / weights).read_bytes() == (done.path / weights).read_bytes()


def test_enough_for_all_is_told(sums, tiny, order, tmp_path):
    settings = dataclasses.replace(QUICK, flops=1e15)
    done = train(sums, order[:16], tiny, tmp_path / "m", settings)
    assert len(done.steps) == 2
    assert done.about["notes"][0].startswith("all 2 steps were done; ")


def test_less_than_a_step_is_refused_before_it_begins(sums, tiny, order, tmp_path):
    with pytest.raises(BudgetError, match=r"train.flops=1e\+06: the first step of 8 samples takes"):
        train(sums, order, tiny, tmp_path / "m", dataclasses.replace(QUICK, flops=1e6))
    assert not (tmp_path / "m").exists()


def test_lengths_are_those_that_the_model_reads(sums, tiny):
    ctx = context_of(sums)
    found = read_lengths(sums, tiny, dataclasses.replace(QUICK, max_length=40), ctx)
    with open_model(tiny, device="cpu") as model:
        turns = sums.read(range(len(sums)), ["turns"]).column("turns")
        tokens = encode(turns, model.tokenizer, Encoding(kind="chat", max_length=40))
    expected = tokens.lengths.copy()
    expected[list(tokens.missing)] = 0
    assert found.tolist() == expected.tolist()
    assert found[7] == 0  # it has no answer
    assert found.max() == 40
    before = ctx.meter.bill.charged.cpu_seconds
    again = read_lengths(sums, tiny, dataclasses.replace(QUICK, max_length=40, lora_rank=4), ctx)
    assert again.tolist() == found.tolist()
    assert ctx.meter.bill.charged.cpu_seconds == before  # kept


@pytest.mark.parametrize("settings", [QUICK, LORA])
def test_rows_take_what_training_on_them_alone_executes(settings, sums, tiny, tmp_path):
    planned = PlannedTraining(model=tiny, settings=settings, epochs=1)
    ahead = planned.foresee(sums, context_of(sums))
    alone = dataclasses.replace(settings, batch_size=1)
    rows = np.array([3, 30, 7, 60])
    done = train(sums, rows, tiny, tmp_path / "m", alone)
    assert ahead.each[rows].sum() == done.cost.flops
    assert ahead.each[7] == 0
    lora = lora_spec(read_spec(tiny), rank=4)
    n = int(ahead.lengths[3])
    expected = {
        None: training_flops(read_spec(tiny), n, n**2),
        4: lora_counted(read_spec(tiny), lora, n, n**2),
    }
    assert ahead.each[3] == expected[settings.lora_rank]


def test_numbers_alone_take_the_pools_own_count(sums, tiny):
    spec = dataclasses.replace(read_spec(tiny), context=30, overhead=(("chat", 5),))
    planned = PlannedTraining(model=spec, settings=TrainSettings(), epochs=3)
    ahead = planned.foresee(sums, context_of(sums))
    assert ahead.lengths.tolist() == np.minimum(sums.n_tokens + 5, 30).tolist()
    assert ahead.each[0] == 3 * training_flops(spec, int(ahead.lengths[0]), ahead.lengths[0] ** 2)
    assert isinstance(planned.identity()["model"], dict)
    estimated = estimate_planned(planned, sums, np.arange(120), samples=360)
    assert estimated.flops == pytest.approx(ahead.each.sum(), rel=0.1)  # and padding


def test_an_estimate_does_not_go_over(sums, tiny):
    rows = np.arange(120)
    whole = estimate_planned(PlannedTraining(model=tiny, settings=QUICK), sums, rows, samples=120)
    less = dataclasses.replace(QUICK, flops=0.5 * whole.flops)
    cost = estimate_planned(PlannedTraining(model=tiny, settings=less), sums, rows, samples=120)
    assert (cost.flops, cost.tokens) == (0.5 * whole.flops, round(0.5 * whole.tokens))


def test_select_says_what_it_comes_to(sums, tiny):
    each = PlannedTraining(model=tiny, settings=LORA, epochs=2).foresee(sums, context_of(sums)).each
    train_later = {"model": tiny, "epochs": 2, "lora_rank": 4, "max_length": 96, "batch_size": 8}
    budget = Budget(flops=float(each[:50].sum()) + 1.0)
    chosen = select(sums, None, random_order, budget=budget, train=train_later)
    spent = each[chosen.rows].sum()
    assert spent <= budget.flops
    assert chosen.settings["train"]["lora_rank"] == 4
    assert chosen.settings["train"]["flops"] == budget.flops
    assert any("left for training" in note for note in chosen.notes)
    assert any("batches: +" in note for note in chosen.notes)


def random_order(pool, scores, budget, ctx, /):
    from didact.core.protocols import Ranking

    return Ranking(rows=np.random.default_rng(1).permutation(len(pool)))


@pytest.mark.parametrize(
    ("budget", "train_later", "error", "message"),
    [
        (Budget(flops=1e12), None, ConfigError, "needs the model that it trains"),
        (Budget(samples=3), {"model": "x"}, ConfigError, "does nothing without a budget of flops"),
        (Budget(flops=1e12), {"model": "x", "epochs": 0}, ConfigError, "epochs=0; expected 1"),
        (Budget(flops=1e12), {"model": "x", "lorarank": 8}, ConfigError, "did you mean 'lora_rank'"),
        (Budget(flops=1e12), {"model": "x", "flops": 1e9}, ConfigError, "says already"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(sums, budget, train_later, error, message):
    with pytest.raises(error, match=message):
        planned_training(sums, budget, train_later, context_of(sums))


def test_the_spec_is_that_of_the_model_in_memory(tiny):
    with open_model(tiny, device="cpu") as model:
        for settings in (QUICK, LORA):
            loaded, read = (executed_flops(s, settings) for s in (model.spec, read_spec(tiny)))
            assert isinstance(model.spec, ModelSpec)
            assert loaded(1000, 5e5) == read(1000, 5e5)


def test_a_model_may_be_known_by_name_or_size(sums):
    budget, ctx = Budget(flops=1e20), context_of(sums)
    seven = planned_training(sums, budget, {"model": "7B", "epochs": 2}, ctx)
    assert seven.spec().n_total == pytest.approx(7e9, rel=0.03)
    assert "0.93 to 1.07 times" in seven.notes[1]
    llama = planned_training(sums, budget, {"model": "meta-llama/Llama-2-7b-hf"}, ctx)
    assert llama.spec().n_total == 6_738_415_616
    assert len(llama.notes) == 1
    chosen = select(sums, None, random_order, budget=budget, train={"model": "7B", "lora_rank": 8})
    assert "pool's" in chosen.notes[-2]
    same = planned_training(sums, budget, {"model": 7e9}, ctx).spec()
    assert same.matrices == seven.spec().matrices
    with pytest.raises(ConfigError, match=r"no such folder, and model 'Lama-2-7b'.*did you mean"):
        planned_training(sums, budget, {"model": "Lama-2-7b"}, ctx)


def test_only_what_decides_the_flops_tells_trainings_apart(tiny):
    def identity(**change):
        settings = dataclasses.replace(QUICK, **change)
        return PlannedTraining(model=tiny, settings=settings).identity()

    assert identity(learning_rate=1e-5, schedule="linear") == identity()
    for change in ({"lora_rank": 4}, {"max_length": 40}, {"loss": "all"}, {"batch_size": 4}):
        assert identity(**change) != identity()
