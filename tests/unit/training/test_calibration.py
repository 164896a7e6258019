import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from didact.core.errors import ConfigError
from didact.execution.calibrated import this_machine
from didact.models.proxy import Shape
from didact.training import calibration

SHAPE = Shape(vocab=64, width=32, layers=1, heads=1, inner=64)


def test_rates_of_a_tiny_model():
    before = torch.random.get_rng_state()
    steps = []
    found = calibration.calibrated(
        device="cpu", seconds=0.02, shape=SHAPE, progress=lambda step: steps.append(step.done)
    )
    assert found.machine == this_machine()
    assert found.n_params == SHAPE.n_params
    assert found.tokens_per_batch == 1024
    assert found.dtype == "float32"
    assert found.threads == torch.get_num_threads()
    assert 0 < found.training_flops_per_second <= found.peak_flops_per_second
    assert 0 < found.forward_flops_per_second <= found.peak_flops_per_second
    assert found.seconds > 0.02
    assert steps == [0, 1, 2, 3]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_work_is_done_once_at_least_beside_the_warm_up():
    calls = []
    assert calibration._per_second(lambda: calls.append(1), 1e-9) > 0
    assert len(calls) >= 2


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_time_must_be_positive(seconds):
    with pytest.raises(ConfigError, match="expected a time above 0"):
        calibration.calibrated(device="cpu", seconds=seconds, shape=SHAPE)
