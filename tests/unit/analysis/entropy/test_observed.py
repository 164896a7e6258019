"""The first epoch's loss from telemetry."""

from __future__ import annotations

import pytest

from didact.analysis.entropy.observed import first_epoch_loss
from didact.core.errors import DataError
from didact.training.telemetry import Step


def steps(losses, learnt=None, first=1, epochs=None, tokens=10):
    learnt, epochs = learnt or [1.0] * len(losses), epochs or [1] * len(losses)
    return [
        Step(step=first + i, loss=loss, learnt=weight, epoch=epoch, tokens=tokens)
        for i, (loss, weight, epoch) in enumerate(zip(losses, learnt, epochs, strict=True))
    ]


def test_steps_weigh_by_their_learnt_tokens():
    found = first_epoch_loss(steps([4.0, 3.0, 2.0, 1.0], [1, 1, 1, 3]), shares=(0.05, 0.2, 0.5))
    assert found.loss == pytest.approx((4 + 3 + 2 + 3) / 6)
    # 5 % ends before the first step does; 20 % after one, 50 % after three
    assert found.early == {0.2: 4.0, 0.5: pytest.approx(3.0)}
    assert (found.tokens, found.steps) == (40, 4)


def test_the_second_epoch_is_left_out():
    found = first_epoch_loss(steps([4.0, 2.0, 1.0, 1.0], epochs=[1, 1, 2, 2]))
    assert found.loss == 3.0
    assert found.early[0.5] == 4.0


def test_without_learnt_tokens_or_epochs():
    plain = [Step(step=i + 1, loss=loss) for i, loss in enumerate([3.0, 1.0])]
    assert first_epoch_loss(plain).loss == 2.0
    assert first_epoch_loss(plain).tokens is None
    counted = [Step(step=1, loss=3.0, tokens=30), Step(step=2, loss=1.0, tokens=10)]
    assert first_epoch_loss(counted).loss == 2.5


def test_a_step_that_learnt_nothing_counts_nothing():
    found = first_epoch_loss(steps([4.0, 99.0, 2.0], [1, 0, 1]))
    assert found.loss == 3.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (steps([2.0], first=5), "log: has no first epoch, it begins with step 5, epoch 1"),
        (steps([2.0], epochs=[2]), "log: has no first epoch, it begins with step 1, epoch 2"),
        ([], "log: has no first epoch, it begins with nothing"),
        (steps([2.0], [0.0]), "log: no step of its first epoch learnt a token"),
    ],
)
def test_telemetry_without_a_beginning_is_refused(given, said):
    with pytest.raises(DataError, match=said):
        first_epoch_loss(given, what="log")
