import pytest

from didact.training.schedule import learning_rate_factor


def test_warm_up_rises_in_equal_steps_to_the_highest():
    rates = [learning_rate_factor(i, steps=100, warm_up=4, schedule="cosine") for i in range(6)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] < 1


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "wsd"])
@pytest.mark.parametrize(("steps", "warm_up"), [(1, 0), (1, 1), (2, 1), (7, 3), (50, 5)])
def test_every_update_has_a_rate(schedule, steps, warm_up):
    rates = [
        learning_rate_factor(i, steps=steps, warm_up=warm_up, schedule=schedule)
        for i in range(steps)
    ]
    assert all(0 < r <= 1 for r in rates)
    after = rates[warm_up:]
    assert after == sorted(after, reverse=True)


def test_shapes_of_the_schedules():
    def at(i, name):
        return learning_rate_factor(i, steps=100, warm_up=0, schedule=name)

    assert at(50, "linear") == pytest.approx(0.5)
    assert at(25, "cosine") == pytest.approx(0.5 * (1 + 2**-0.5))
    assert at(99, "constant") == 1
    assert [at(79, "wsd"), at(80, "wsd"), at(90, "wsd"), at(99, "wsd")] == [1, 1, 0.5, 0.05]


def test_epoch_means_are_those_less_weighs_its_checkpoints_by():
    # princeton-nlp/LESS, 422 steps at 2e-5, warm-up 0.03, checkpoints after 105, 211, 317 and 420
    # steps: 1.6877e-5, 1.2859e-5, 7.7030e-6, 2.5616e-6. Its warm-up starts at 0 where ours starts
    # at 1/14, so the first mean differs by 0.4 %.
    rates = [
        2e-5 * learning_rate_factor(i, steps=422, warm_up=13, schedule="linear") for i in range(422)
    ]
    means = [sum(rates[a:b]) / (b - a) for a, b in [(0, 105), (105, 211), (211, 317), (317, 422)]]
    assert means == pytest.approx([1.6877e-5, 1.2859e-5, 7.7030e-6, 2.5616e-6], rel=0.02)
