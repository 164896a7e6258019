"""A judging model that knows nothing is noted, and one that was trained is not."""
# ruff: noqa: E402 - what needs torch is imported where it is there

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from didact.core.identity import about
from didact.core.protocols import Context
from didact.execution.executors import serial
from didact.models.architecture import read_spec
from didact.scoring.adjoint.lqs import LQS
from didact.scoring.adjoint.pds import PDS
from didact.scoring.around.score_pool import score_pool
from didact.scoring.judging.judging_model import with_note
from didact.scoring.less.less import LESS
from didact.testing import make_pool, sample_rows, target_rows
from didact.training.causal import TrainSettings, train

SHORT = {"device": "cpu", "max_length": 96}
INNER = {**SHORT, "steps": 2, "every": 1, "inner_batch": 4}
WARM = {**SHORT, "share": 0.4, "epochs": 1, "rank": 2, "alpha": 4, "batch_size": 8}
METHODS = {
    "less": (LESS, WARM),
    "projected": (LESS, {**WARM, "space": "projected", "dimension": 64}),
    "pds": (PDS, INNER),
    "lqs": (LQS, INNER),
}


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pools")
    return make_pool(sample_rows(), folder), make_pool(target_rows(), folder, name="target")


@pytest.fixture(scope="module")
def models(tmp_path_factory, save_llama, pools):
    """By whether it was trained; both have 320 tokens, of which choosing blindly costs 5.77."""
    folder = tmp_path_factory.mktemp("models")
    fresh = save_llama(folder / "fresh", initializer_range=0.02)
    settings = TrainSettings(batch_size=8, learning_rate=1e-2, device="cpu", max_length=96)
    rows = np.tile(np.arange(len(pools[0])), 8)
    trained = train(pools[0], rows, fresh, folder / "trained", settings)
    return {False: fresh, True: trained.path}


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("name", METHODS)
def test_a_judge_that_knows_nothing_is_noted(name, trained, models, pools, tmp_path):
    method, settings = METHODS[name]
    scorer = method(model=str(models[trained]), **settings)
    ctx = Context(executor=serial(), seed=3, cache_dir=tmp_path)
    facts = score_pool(
        pools[0], about(method).name, scorer, dataclasses.asdict(scorer), pools[1], ctx
    ).facts
    loss = facts["judge_loss"] if method is LESS else facts["target_loss"][0]
    blind = math.log(read_spec(models[trained]).vocab)
    note = facts.get("note", "")
    assert ("projected" in note) == (name == "projected")
    if trained:
        assert loss < 0.8 * blind
        assert "untrained" not in note
    else:
        assert loss == pytest.approx(blind, rel=0.02)
        of = "samples of the pool" if method is LESS else "the target set"
        assert f"the judging model looks untrained: its loss on {of} is {loss:.2f} nats" in note
        assert f"{blind:.2f} takes no knowledge" in note


def test_notes_stand_behind_one_another():
    assert with_note({}, "") == {}
    assert with_note({"a": 1}, "one") == {"a": 1, "note": "one"}
    assert with_note({"note": "one"}, "two") == {"note": "one; two"}
    assert with_note({"note": "one"}, "") == {"note": "one"}
