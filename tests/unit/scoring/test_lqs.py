"""PDS and LQS through the door: contract, restarts, cost, what they refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from didact.core.errors import ConfigError, DataError  # noqa: E402
from didact.core.identity import about  # noqa: E402
from didact.core.protocols import Context, Progress  # noqa: E402
from didact.execution.executors import processes, serial  # noqa: E402
from didact.gradients.parameters import load, put_into  # noqa: E402
from didact.models.encode import Encoding, encode  # noqa: E402
from didact.models.language_model import open_model  # noqa: E402
from didact.scoring.adjoint import annotation  # noqa: E402
from didact.scoring.adjoint.lqs import LQS  # noqa: E402
from didact.scoring.adjoint.pds import PDS  # noqa: E402
from didact.scoring.adjoint.rules import StepProducts, annotated_steps, sum_products  # noqa: E402
from didact.scoring.around.score_pool import score_pool  # noqa: E402
from didact.testing import chat, make_pool, sample_rows, target_rows  # noqa: E402

WORDS = ["the", "answer", "to", "question", "is", "not", "itself", "and", "so", "on"]
TINY = {"steps": 4, "every": 2, "inner_batch": 4, "learning_rate": 0.02, "device": "cpu"}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small are faster on one, beside other tests
    yield
    torch.set_num_threads(before)


def run(scorer, pool, target, folder: Path, *, executor=None, seed=3, progress=None):
    more = {} if progress is None else {"progress": progress}
    ctx = Context(executor=executor or serial(), seed=seed, cache_dir=folder, **more)
    scores = score_pool(
        pool, about(type(scorer)).name, scorer, dataclasses.asdict(scorer), target, ctx
    )
    return scores, ctx.meter.bill


@pytest.fixture
def pools(tmp_path):
    return make_pool(sample_rows(), tmp_path), make_pool(target_rows(), tmp_path, name="target")


@pytest.mark.slow
def test_scores_do_not_depend_on_batches_or_neighbors(tiny_model, tmp_path, pools, monkeypatch):
    scorer = LQS(model=str(tiny_model), dtype="float64", **TINY)
    whole, _ = run(scorer, *pools, tmp_path / "a")
    monkeypatch.setattr(annotation, "SHARD_ROWS", 5)
    small = dataclasses.replace(scorer, tokens_per_batch=64)
    other, _ = run(small, *pools, tmp_path / "b", executor=processes(2))
    # Llama's norms and softmax are float32 in a float64 model too.
    assert np.allclose(other.values, whole.values, rtol=1e-4, equal_nan=True)
    assert other.missing == whole.missing
    assert set(whole.parts) == {"learnability", "quality"}
    assert whole.missing == {8: "the completion has no token to predict"}


def test_an_interrupted_annotation_goes_on(tiny_model, tmp_path, pools, monkeypatch):
    monkeypatch.setattr(annotation, "SHARD_ROWS", 8)
    scorer = LQS(model=str(tiny_model), **TINY)
    expected, whole = run(scorer, *pools, tmp_path / "whole")

    class Killed(Exception):  # noqa: N818 - not an error
        pass

    def dies(step: Progress):
        if step.stage == "annotate" and step.done > 60:
            raise Killed

    with pytest.raises(Killed):
        run(scorer, *pools, tmp_path / "parts", progress=dies)
    again, rest = run(scorer, *pools, tmp_path / "parts")
    assert again.values.tobytes() == expected.values.tobytes()
    assert again.facts == expected.facts
    assert 0 < rest.charged.flops < 0.5 * whole.charged.flops
    assert whole.charged.flops == whole.value.flops == rest.value.flops
    assert whole.charged.tokens == whole.value.tokens == rest.value.tokens
    third, nothing = run(scorer, *pools, tmp_path / "parts")
    assert (nothing.charged.flops, nothing.charged.tokens) == (0, 0)
    assert nothing.value.flops == whole.value.flops
    assert third.values.tobytes() == expected.values.tobytes()


def test_pds_and_lqs_share_the_adjoint(tiny_model, tmp_path, pools):
    seen = []
    run(PDS(model=str(tiny_model), **TINY), *pools, tmp_path, progress=seen.append)
    assert {s.stage for s in seen} == {"inner training", "adjoint", "annotate", "score"}
    for stage in ("inner training", "adjoint", "annotate"):
        steps = [s for s in seen if s.stage == stage]
        assert steps[-1].done == steps[-1].total
    first = len(list(tmp_path.glob("adjoints/*")))
    assert first == 1
    again = []
    run(LQS(model=str(tiny_model), **TINY), *pools, tmp_path, progress=again.append)
    assert {s.stage for s in again} == {"annotate", "score"}
    assert len(list(tmp_path.glob("adjoints/*"))) == first
    run(PDS(model=str(tiny_model), **TINY | {"steps": 5}), *pools, tmp_path)
    assert len(list(tmp_path.glob("adjoints/*"))) == first + 1


@pytest.mark.parametrize("more", [{}, {"rule": "paper"}], ids=["interval", "paper"])
def test_the_targets_loss_is_told_before_and_after_all_steps(tiny_model, tmp_path, pools, more):
    scorer = LQS(model=str(tiny_model), **TINY, **more)
    before, after = run(scorer, *pools, tmp_path)[0].facts["target_loss"]

    def loss_of(change):  # one by one, without padding
        with open_model(tiny_model, device="cpu") as model, torch.no_grad():
            change(model)
            turns = pools[1].read(range(len(pools[1])), ["turns"]).column("turns")
            tokens = encode(turns, model.tokenizer, Encoding(kind="chat", max_length=256))
            found = []
            for row in tokens.scored.tolist():
                ids, weights = (torch.tensor(x) for x in tokens.sample(row))
                logp = model.module(ids[None].long()).logits[0, :-1].log_softmax(-1)
                nll = -logp.gather(1, ids[1:, None].long())[:, 0]
                found.append(float((nll * weights[1:]).sum() / weights.sum()))
            return np.mean(found)

    (last,) = tmp_path.glob("adjoints/*/theta-000004.safetensors")
    assert before == pytest.approx(loss_of(lambda model: None), rel=1e-5)
    assert after == pytest.approx(loss_of(lambda model: put_into(model, load(last))), rel=1e-5)
    assert after < before


def test_the_seed_draws_other_batches(tiny_model, tmp_path, pools):
    scorer = PDS(model=str(tiny_model), **TINY)
    one, _ = run(scorer, *pools, tmp_path, seed=1)
    two, _ = run(scorer, *pools, tmp_path, seed=2)
    assert not np.allclose(one.values, two.values, equal_nan=True)
    assert np.corrcoef(one.values[one.present], two.values[two.present])[0, 1] > 0.5


def test_a_sample_like_the_target_scores_higher(tiny_model, tmp_path):
    rows = [
        chat(f"r{i}", "What is asked?", ("the answer to the question " if i % 2 else "xq zw ") * 6)
        for i in range(16)
    ]
    rows = [{**r, "messages": [*r["messages"][:1], {**r["messages"][1]}]} for r in rows]
    for i, row in enumerate(rows):
        row["messages"][1]["content"] += str(i)
    pool = make_pool(rows, tmp_path)
    aim = [chat("t", "And what?", "the question is the answer, and so on", task="a")]
    target = make_pool(aim, tmp_path, name="target")
    for method in (PDS, LQS):
        values = run(method(model=str(tiny_model), **TINY), pool, target, tmp_path)[0].values
        assert values[1::2].min() > values[::2].max()


# -- the data scorer -------------------------------------------------------------------------------


def test_a_data_scorer_learns_the_scores_of_the_others(tiny_model, tmp_path):
    rows = [
        chat(
            f"r{i}",
            "and the question to the answer is the question, and so on and on",
            f"{('the answer to the question ' if i % 2 else 'xq zw ') * 4}{i}",
        )
        for i in range(40)
    ]
    reading = {"tokenizer": str(tiny_model / "tokenizer.json")}
    pool = make_pool(rows, tmp_path, **reading)
    aim = [chat("t", "And what?", "the question is the answer")]
    target = make_pool(aim, tmp_path, name="t", **reading)
    scorer = LQS(
        model=str(tiny_model), proxy=24, scorer_epochs=3, scorer_learning_rate=1e-2, **TINY
    )
    scores, spent = run(scorer, pool, target, tmp_path / "a")
    assert scores.values[1::2].min() > scores.values[::2].max()
    assert np.abs(scores.values).max() < 4
    facts = scores.facts["data_scorer"]
    assert facts["n_train"] + facts["n_dev"] == scores.facts["proxy"] == 24
    assert len(facts["spearman"]) == 3
    estimate = scorer.estimate(pool.stats, target.stats)
    # 40 samples of two lengths, which the bins of a histogram spread out.
    assert estimate.flops == pytest.approx(spent.charged.flops, rel=0.1)
    again, _ = run(scorer, pool, target, tmp_path / "a")
    assert again.values.tobytes() == scores.values.tobytes()
    mixed = np.random.default_rng(2).permutation(len(pool))
    other = make_pool([rows[i] for i in mixed], tmp_path, name="mixed", **reading)
    moved, _ = run(scorer, other, target, tmp_path / "b")
    # Float32 sums of other batches, through 9 updates.
    assert np.allclose(moved.values, scores.values[mixed], atol=1e-3)


# -- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more"),
    [(PDS, {}), (LQS, {"rule": "paper", "hvp": "finite_difference"})],
    ids=["pds", "paper"],
)
def test_cost_is_what_torch_counts_and_the_estimate_is_near(
    tiny_model, tmp_path, monkeypatch, method, more
):
    rng = np.random.default_rng(0)
    rows = [
        {"id": str(i), "text": " ".join(rng.choice(WORDS, rng.integers(6, 40)))} for i in range(60)
    ]
    reading = {"tokenizer": str(tiny_model / "tokenizer.json")}
    pool = make_pool(rows, tmp_path, **reading)
    target = make_pool(rows[:6], tmp_path, name="target", **reading)
    # Eager attention in annotation too: FlopCounterMode does not see into fused kernels on a CPU.
    judge = annotation.JudgingModel
    monkeypatch.setattr(
        judge,
        "open",
        lambda self, device, attention=None, own=judge.open: own(self, device, attention="eager"),
    )
    scorer = method(model=str(tiny_model), **TINY | {"steps": 6, "inner_batch": 8}, **more)
    with FlopCounterMode(display=False) as counter:
        _, spent = run(scorer, pool, target, tmp_path)
    assert spent.charged.flops == pytest.approx(counter.get_total_flops(), rel=1e-9)
    estimate = scorer.estimate(pool.stats, target.stats)
    assert estimate.flops == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert estimate.tokens == pytest.approx(spent.charged.tokens, rel=0.05)


# -- sums of terms --------------------------------------------------------------------------------


def test_a_zero_gradient_is_missing_with_its_reason():
    found = sum_products(
        "interval",
        StepProducts(
            dots={0: np.asarray([1.0, 0.0, 2.0, np.nan]), 2: np.asarray([1.0, 0.0, 3.0, 1.0])},
            norms={
                0: np.asarray([1.0, 0.0, 1.0, 1.0]),
                2: np.asarray([1.0, 2.0, 0.0, 1.0]),
                4: np.asarray([2.0, 1.0, 1.0, 1.0]),
            },
            lambda_norms={0: 1.0, 2: 0.0},
            missing={3: "not finite"},
        ),
        steps=4, every=2, learning_rate=0.5,
    )  # fmt: skip
    np.testing.assert_array_equal(found.values, [0.75, 0.0, np.nan, np.nan])
    assert found.missing == {
        2: "its gradient is zero at inner step 2, and the score divides by its norm",
        3: "not finite",
    }
    # a zero λ or gradient counts 0; a sample without a score has no columns either
    np.testing.assert_array_equal(found.parts["quality"], [1.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(found.parts["learnability"], [1.5, 2.0, np.nan, np.nan])


def test_annotated_steps():
    def steps(rule, t, k):
        return [(s.number, s.dot, s.norm) for s in annotated_steps(rule, t, k)]

    assert steps("pds", 5, 2) == [(4, True, False), (2, True, False), (0, True, False)]
    assert steps("interval", 4, 2) == [(4, False, True), (2, True, True), (0, True, True)]
    assert steps("interval", 5, 3) == [(5, False, True), (3, True, True), (0, True, True)]
    assert steps("interval", 3, 10) == [(3, False, True), (0, True, True)]
    assert steps("paper", 4, 1) == [
        (4, False, True), (3, True, True), (2, True, True), (1, True, True),
    ]  # fmt: skip
    assert steps("paper", 6, 3) == [
        (5, False, True), (4, True, True), (2, False, True), (1, True, True),
    ]  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------


def test_a_proxy_larger_than_the_pool(tiny_model, tmp_path, pools):
    scorer = LQS(model=str(tiny_model), proxy=1000, **TINY)
    with pytest.raises(ConfigError, match="lqs.proxy=1000: the pool has 37 samples; set proxy=all"):
        run(scorer, *pools, tmp_path)
    with pytest.raises(ConfigError, match="proxy=1000"):
        scorer.estimate(pools[0].stats, pools[1].stats)


def test_a_target_without_losses(tiny_model, tmp_path, pools):
    target = make_pool([chat("q", "What?", "")], tmp_path, name="silent")
    scorer = PDS(model=str(tiny_model), **TINY)
    with pytest.raises(DataError, match=r"no sample of the target set has a loss \(the completion"):
        run(scorer, pools[0], target, tmp_path)


def test_a_learning_rate_too_large(tiny_model, tmp_path, pools):
    scorer = PDS(model=str(tiny_model), **TINY | {"learning_rate": 1e30})
    with pytest.raises(ConfigError, match="lower learning_rate"):
        run(scorer, *pools, tmp_path)


def test_the_paper_rule_needs_two_steps(tiny_model, tmp_path, pools):
    scorer = LQS(model=str(tiny_model), rule="paper", **TINY | {"steps": 1})
    with pytest.raises(ConfigError, match=r"steps=1: rule=paper"):
        run(scorer, *pools, tmp_path)


def test_differences_of_bfloat16_gradients(tiny_model, tmp_path, pools):
    scorer = PDS(model=str(tiny_model), dtype="bfloat16", hvp="finite_difference", **TINY)
    with pytest.raises(ConfigError, match="bfloat16 rounds the difference away"):
        run(scorer, *pools, tmp_path)
