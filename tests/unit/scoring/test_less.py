"""LESS against gradients that are materialised one sample at a time."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from didact.core.entries import open_entry
from didact.core.errors import ConfigError, DamagedError, DataError
from didact.core.protocols import Context
from didact.execution.executors import serial
from didact.scoring.around.score_pool import score_pool
from didact.testing import chat, make_pool, sample_rows, target_rows

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from scipy.stats import spearmanr  # noqa: E402

from didact.models.encode import encode  # noqa: E402
from didact.scoring.less.checkpoints import WarmUpCheckpoints  # noqa: E402
from didact.scoring.less.less import LESS  # noqa: E402

SMALL = {
    "share": 0.4, "epochs": 2, "rank": 2, "alpha": 4, "batch_size": 4, "learning_rate": 1e-2,
    "dtype": "float64", "device": "cpu", "max_length": 96, "tokens_per_batch": 512,
}  # fmt: skip


@pytest.fixture(scope="module")
def double_model(tmp_path_factory, tiny_model):
    """A GPT-2: all of it works in float64, where a Llama's norms are float32 whatever its type."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=256,
        initializer_range=0.2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory, double_model):
    folder = tmp_path_factory.mktemp("less")
    pool = make_pool(sample_rows(), folder)
    target = make_pool(target_rows(), folder, name="target")
    return pool, target, folder, str(double_model)


def context(folder: Path) -> Context:
    return Context(executor=serial(), seed=3, cache_dir=folder / "cache")


def run(places, ctx=None, **settings):
    pool, target, folder, model = places
    scorer = LESS(model=model, **{**SMALL, **settings})
    return score_pool(pool, "less", scorer, {}, target, ctx or context(folder))


def brute_force(places, **settings) -> np.ndarray:
    """Σ_c w_c ⟨Γ(g), mean of unit target gradients⟩ / ‖Γ(g)‖ by task; written from the paper."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pool, target, folder, name = places
    scorer = LESS(model=name, **{**SMALL, **settings})
    fitted = scorer.fit(pool, target, context(folder))
    warm = fitted.open.args[0]  # an open function with what was fitted
    assert isinstance(warm, WarmUpCheckpoints)
    tokenizer = AutoTokenizer.from_pretrained(name)
    total = np.zeros((len(pool), len(target.task_names)))
    steps = dict(zip(warm.checkpoints, fitted.facts["checkpoint_steps"], strict=True))
    for path, weight in zip(warm.checkpoints, warm.weights, strict=True):
        base = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks for a renamed attribute
            model = PeftModel.from_pretrained(
                base, path, is_trainable=True, autocast_adapter_dtype=False
            ).eval()
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        kept = load_file(path / "moments.safetensors")

        def gradients(of, model=model, trained=trained):
            batch = of.read(range(len(of)), ["turns"])
            tokens = encode(batch.column("turns"), tokenizer, warm.judge.encoding)
            out = []
            for row in range(len(of)):
                at = slice(tokens.offsets[row], tokens.offsets[row + 1])
                ids = torch.tensor(tokens.ids[at][None], dtype=torch.long)
                weights = torch.tensor(tokens.weights[at], dtype=torch.float64)
                logp = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
                nll = -logp.gather(1, ids[0, 1:, None])[:, 0]
                loss = (nll * weights[1:]).sum() / weights.sum()
                found = torch.autograd.grad(loss, list(trained.values()))
                out.append(dict(zip(trained, found, strict=True)))
            return out

        def adam(name, g, kept=kept, step=steps[path] + 1):
            if scorer.gradient == "sgd":
                return g
            m = 0.9 * kept[f"exp_avg/{name}"].double() + 0.1 * g
            v = 0.999 * kept[f"exp_avg_sq/{name}"].double() + 0.001 * g**2
            if scorer.bias_correction:
                m, v = m / (1 - 0.9**step), v / (1 - 0.999**step)
            if scorer.epsilon_inside:
                return m / (v + scorer.epsilon).sqrt()
            return m / (v.sqrt() + scorer.epsilon)

        flat = lambda g: torch.cat([t.flatten() for t in g.values()])  # noqa: E731
        unit = [flat(g) / flat(g).norm() for g in gradients(target)]
        tasks = target.task_codes
        aims = [
            torch.stack([u for u, t in zip(unit, tasks, strict=True) if t == k]).mean(0)
            for k in range(len(target.task_names))
        ]
        for row, g in enumerate(gradients(pool)):
            move = flat({n: adam(n, t) for n, t in g.items()})
            total[row] += [weight * float(move @ aim / move.norm()) for aim in aims]
    return total


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient": "sgd"},
        {"epsilon_inside": False, "epsilon": 1e-3},
        {"bias_correction": True, "epsilon": 1e-4},
    ],
    ids=str,
)
def test_exact_scores_equal_materialised_gradients(places, settings):
    scores = run(places, **settings)
    expected = brute_force(places, **settings)
    kept = scores.present
    assert not kept.all()  # a sample without an answer has no gradient
    assert scores.tasks == places[1].task_names
    np.testing.assert_allclose(scores.by_task[kept], expected[kept], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(scores.values[kept], expected[kept].max(axis=1), rtol=1e-8)


def test_the_step_of_adam_is_not_linear_and_matters(places):
    adam, sgd = run(places), run(places, gradient="sgd")
    kept = adam.present
    assert spearmanr(adam.values[kept], sgd.values[kept]).statistic < 0.999


def test_tokens_per_batch_is_no_seed_of_dropout(places):
    """Dropout of the adapters and, in this GPT-2, of embeddings, attention and layers."""
    shared = {"dropout": 0.1, "batch_size": 16, "epochs": 4}
    one = run(places, tokens_per_batch=96, **shared).values  # micro-batches of one sample
    whole = run(places, tokens_per_batch=8192, **shared).values  # all samples of a step
    assert spearmanr(one, whole, nan_policy="omit").statistic > 0.999
    np.testing.assert_allclose(one, whole, rtol=1e-6, atol=1e-9)
    without = run(places, tokens_per_batch=8192, **{**shared, "dropout": 0.0}).values
    assert np.nanmax(np.abs(without - whole)) > 1e-3


def test_projected_scores_approach_the_exact_ones(places):
    exact = run(places)
    kept = exact.present
    agreement = []
    for dimension in (64, 512, 4096):
        found = run(places, space="projected", dimension=dimension, unit="before")
        assert (found.present == kept).all()
        assert "projected" in found.facts["note"]
        error = found.by_task[kept] - exact.by_task[kept]
        agreement.append(float(np.sqrt((error**2).mean())))
    # The error of an estimate of a cosine falls as 1/√dimension: 8 from 64 to 4,096.
    assert agreement[0] > agreement[1] > agreement[2]
    assert 3 < agreement[0] / agreement[2] < 16
    assert spearmanr(found.values[kept], exact.values[kept]).statistic > 0.95


def test_a_second_target_costs_only_its_own_gradients(places):
    pool, _, folder, model = places
    scorer = LESS(model=model, **SMALL, space="projected", dimension=128)
    first, second = context(folder), context(folder)
    score_pool(pool, "less", scorer, {}, places[1], first)
    other = make_pool([chat("o", "What is 2 plus 2?", "4")], folder, name="other")
    score_pool(pool, "less", scorer, {}, other, second)
    # What is charged is one target sample at two checkpoints; warm-up and sketches are told.
    assert 0 < second.meter.bill.charged.tokens < 0.05 * first.meter.bill.charged.tokens
    shared = {k for k in first.meter.bill.uses if k.startswith(("adapters/", "sketches/"))}
    assert len(shared) == 3
    for key in shared:
        told, made = second.meter.bill.uses[key], first.meter.bill.uses[key]
        assert (told.flops, told.tokens) == (made.flops, made.tokens)
    uses = {k: v for k, v in second.meter.bill.uses.items() if k not in shared}
    assert sum(v.tokens for v in uses.values()) == second.meter.bill.charged.tokens
    assert second.meter.bill.value.tokens > 0.5 * first.meter.bill.value.tokens


@pytest.mark.parametrize("damage", ["gone", "one bit"])
def test_a_damaged_shard_is_sketched_again_to_the_same_scores(places, damage):
    settings = {"space": "projected", "dimension": 192}
    before = run(places, **settings)
    kept = places[2] / "cache" / "sketches"
    newest = max(kept.rglob("000000/vectors.npy"), key=lambda p: p.stat().st_mtime)
    entry, data = open_entry(newest.parents[1]), newest.read_bytes()
    newest.unlink()
    if damage == "one bit":
        newest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DamagedError):  # it shows where it is read, and its entry is void then
            run(places, **settings)
    ctx = context(places[2])
    assert run(places, ctx, **settings).values.tobytes() == before.values.tobytes()
    assert ctx.meter.bill.charged.flops == entry.bill.own.flops > 0
    open_entry(newest.parents[1]).verify()
    assert newest.read_bytes() == data


def test_the_warm_up_does_not_depend_on_the_order_of_the_rows(places, tmp_path):
    from didact.core.sampling import drawable_rows, random_key, shuffled_rows

    rows = [chat(f"r{i}", f"q {i // 2}", f"a {i // 2}") for i in range(40)]  # pairs of copies
    drawn = []
    for name, order in (("as is", rows), ("turned", rows[::-1])):
        pool = make_pool(order, tmp_path, name=name)
        key = random_key(context(tmp_path), "warm-up")
        found = shuffled_rows(pool, drawable_rows(pool), key)[:9]
        drawn.append(pool.read(found, ["text"]).column("text").to_pylist())
    assert drawn[0] == drawn[1]


def test_auto_projects_when_directions_do_not_fit(places):
    assert run(places, memory=1e-9, dimension=64).facts["space"] == "projected"
    assert run(places).facts["space"] == "exact"


def test_a_target_task_without_a_loss_is_named(places, tmp_path):
    pool, _, folder, model = places
    rows = [chat("a", "What?", "This.", task="one"), chat("b", "Nothing?", "", task="empty")]
    target = make_pool(rows, tmp_path, name="empty-task")
    with pytest.raises(DataError, match=r"target task 'empty': no sample has a loss; row 1"):
        score_pool(pool, "less", LESS(model=model, **SMALL), {}, target, context(folder))


def test_no_chat_template_is_said_before_anything_runs(places, tmp_path, save_llama):
    pool, target, folder, _ = places
    bare = save_llama(tmp_path / "bare", template=None)
    with pytest.raises(ConfigError, match=r"score.less: .*chat template.*template=roles"):
        score_pool(pool, "less", LESS(model=str(bare), **SMALL), {}, target, context(folder))


@pytest.mark.parametrize("space", ["exact", "projected"])
def test_the_estimate_is_near_what_a_profiler_counts(tiny_model, tmp_path, monkeypatch, space):
    from torch.utils.flop_counter import FlopCounterMode

    from didact.models import language_model as door

    real = door._module
    monkeypatch.setattr(door, "_module", lambda path, dtype, _: real(path, dtype, "eager"))
    rows = [chat(f"r{i}", f"What is {i}?", "so it is " * (1 + i % 9)) for i in range(60)]
    tokenizer = str(tiny_model / "tokenizer.json")
    pool = make_pool(rows, tmp_path, tokenizer=tokenizer)
    target = make_pool(target_rows(), tmp_path, name="target", tokenizer=tokenizer)
    settings = {**SMALL, "dtype": "float32", "share": 0.1, "space": space, "dimension": 256}
    scorer = LESS(model=str(tiny_model), **settings)
    ctx = context(tmp_path)
    with FlopCounterMode(display=False) as counter:
        score_pool(pool, "less", scorer, {}, target, ctx)
    counted, spent = counter.get_total_flops(), ctx.meter.bill.charged
    estimated = scorer.estimate(pool.stats, target.stats)
    assert spent.flops == pytest.approx(counted, rel=0.02)
    assert estimated.flops == pytest.approx(counted, rel=0.05)
    assert estimated.tokens == pytest.approx(spent.tokens, rel=0.05)
